// blocks.h: the commands of guest-blocks; each gets the words after its name and returns the exit
// code.
#pragma once

#include "common.h"

#include <string>
#include <vector>

namespace guest {

using Words = std::vector<std::string>;

// blocks_fill.cpp
int fill(const Words& words);
int check(const Words& words);

// blocks_model.cpp
int model(const Words& words);

// blocks_sync.cpp
int sync_write(const Words& words);
int sync_check(const Words& words);
int moment_check(const Words& words);

// blocks_atomic.cpp
int atomic_limits(const Words& words);
int atomic_write(const Words& words);
int atomic_verify(const Words& words);

// The value of `--name value` in words, or `otherwise`.
std::string option(const Words& words, const std::string& name, const std::string& otherwise);
bool flag(const Words& words, const std::string& name);

}  // namespace guest

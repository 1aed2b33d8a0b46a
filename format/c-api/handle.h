// What is behind the C boundary's struct coppice_store, for the controller, which is C++ too.
#pragma once

#include "format/disk/tasks.h"
#include "format/volume/store.h"

struct coppice_store;

namespace coppice {

Store& store_of(coppice_store* handle);
// Its tasks: QEMU's coroutines, or whatever the ports are made of.
Tasks& tasks_of(coppice_store* handle);

}  // namespace coppice

# Language level, code generation and warnings for everything in the project.
#
# `coppice_options` (INTERFACE) carries the strict warnings and the sanitizers; every target of ours
# links it. Glue that includes QEMU's headers does not, as those are not written for these warnings.

option(COPPICE_WERROR "Treat warnings as errors" ON)
option(COPPICE_SANITIZE "Build with the address and undefined-behaviour sanitizers" OFF)
option(COPPICE_FUZZERS "Build libFuzzer programs (needs clang)" OFF)

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_C_STANDARD 11)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)

# The store ends up inside a shared object in QEMU's process: position independent, and nothing of
# its inside visible to QEMU or to the libraries QEMU loads.
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_C_VISIBILITY_PRESET hidden)
set(CMAKE_CXX_VISIBILITY_PRESET hidden)
set(CMAKE_VISIBILITY_INLINES_HIDDEN ON)

if(NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
    set(CMAKE_BUILD_TYPE RelWithDebInfo CACHE STRING "Build type" FORCE)
endif()
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 12)
    message(FATAL_ERROR "g++ ${CMAKE_CXX_COMPILER_VERSION} is too old; use g++ 12 or later (-DCMAKE_CXX_COMPILER=g++-12).")
endif()

find_program(COPPICE_CCACHE ccache)
if(COPPICE_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
    set(CMAKE_C_COMPILER_LAUNCHER ${COPPICE_CCACHE})
    set(CMAKE_CXX_COMPILER_LAUNCHER ${COPPICE_CCACHE})
endif()

add_library(coppice_options INTERFACE)
target_compile_features(coppice_options INTERFACE cxx_std_20)
target_compile_options(coppice_options INTERFACE
    -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wsign-conversion -Wcast-align -Wcast-qual
    -Wformat=2 -Wundef -Wvla
    $<$<COMPILE_LANGUAGE:CXX>:-Wnon-virtual-dtor;-Wold-style-cast;-Woverloaded-virtual;-Wextra-semi>
    $<$<CXX_COMPILER_ID:GNU>:-Wduplicated-cond;-Wlogical-op>
    $<$<BOOL:${COPPICE_WERROR}>:-Werror>
    # Profiles and crash reports of a fiber are useless without frames; the cost is not measurable.
    -fno-omit-frame-pointer)
target_compile_definitions(coppice_options INTERFACE
    _FILE_OFFSET_BITS=64
    $<$<CONFIG:Debug>:_GLIBCXX_ASSERTIONS>)

if(COPPICE_SANITIZE)
    set(sanitizers -fsanitize=address,undefined -fno-sanitize-recover=all)
    target_compile_options(coppice_options INTERFACE ${sanitizers})
    target_link_options(coppice_options INTERFACE ${sanitizers})
    target_compile_definitions(coppice_options INTERFACE COPPICE_SANITIZE=1)
endif()
if(COPPICE_FUZZERS)
    if(NOT CMAKE_CXX_COMPILER_ID MATCHES "Clang")
        message(FATAL_ERROR "COPPICE_FUZZERS needs clang; use the preset fuzz-smoke.")
    endif()
    target_compile_options(coppice_options INTERFACE -fsanitize=fuzzer-no-link)
endif()

# Libraries of the distribution, as targets. Link the one you use:
#   fmt::fmt   CLI11::CLI11   nlohmann_json::nlohmann_json   Boost::context   tl::expected
#   coppice::isal   coppice::xxhash   coppice::uring   coppice::nvme   coppice::sqlite3
#   Threads::Threads
if(POLICY CMP0167)
    cmake_policy(SET CMP0167 NEW)  # Boost's own package file, not CMake's old search for it
endif()
find_package(Threads REQUIRED)
find_package(PkgConfig REQUIRED)
find_package(fmt REQUIRED)
find_package(CLI11 REQUIRED)
find_package(nlohmann_json REQUIRED)
find_package(tl-expected REQUIRED)
find_package(Boost REQUIRED COMPONENTS context)

foreach(library IN ITEMS "isal libisal" "xxhash libxxhash" "uring liburing" "nvme libnvme" "sqlite3 sqlite3")
    separate_arguments(library)
    list(GET library 0 name)
    list(GET library 1 package)
    pkg_check_modules(coppice_${name} REQUIRED IMPORTED_TARGET GLOBAL ${package})
    add_library(coppice::${name} ALIAS PkgConfig::coppice_${name})
endforeach()

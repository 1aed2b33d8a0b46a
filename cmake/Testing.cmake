# Tests and fuzzers.
#
#   coppice_test(NAME format-tree SOURCES tree_test.cpp LINK coppice_format [LABELS slow])
#       a Catch2 program bin/test-format-tree, one ctest entry of that name. Sources say
#       #include "coppice-catch.h", which finds Catch2 version 2 (Debian 12) or 3 (Debian 13).
#   coppice_fuzzer(NAME open SOURCES open_fuzz.cpp LINK coppice_format)
#       a libFuzzer program bin/fuzz-open, and a ctest entry that runs it for a few seconds;
#       nothing unless COPPICE_FUZZERS is on. The target `fuzzers` builds all of them.
option(COPPICE_TESTS "Build the tests" ON)
enable_testing()

if(COPPICE_TESTS)
    find_package(Catch2 REQUIRED)
    # What is tested is optimised as always; to optimise the tests too would double the time to build
    # them.
    set(COPPICE_TEST_OPTIONS $<$<CONFIG:RelWithDebInfo>:-O1> -g1)
    if(Catch2_VERSION VERSION_GREATER_EQUAL 3)
        add_library(coppice_catch INTERFACE)
        target_link_libraries(coppice_catch INTERFACE Catch2::Catch2WithMain)
        target_include_directories(coppice_catch INTERFACE ${PROJECT_SOURCE_DIR}/cmake/catch)
    else()
        add_library(coppice_catch STATIC ${PROJECT_SOURCE_DIR}/cmake/catch/main-of-catch2-v2.cpp)
        target_link_libraries(coppice_catch PUBLIC Catch2::Catch2)
        target_compile_options(coppice_catch PRIVATE ${COPPICE_TEST_OPTIONS})
        target_include_directories(coppice_catch PUBLIC ${PROJECT_SOURCE_DIR}/cmake/catch)
    endif()
endif()

function(coppice_test)
    cmake_parse_arguments(PARSE_ARGV 0 arg "" "NAME;TIMEOUT" "SOURCES;LINK;LABELS")
    if(NOT COPPICE_TESTS)
        return()
    endif()
    set(target test-${arg_NAME})
    add_executable(${target} ${arg_SOURCES})
    target_link_libraries(${target} PRIVATE ${arg_LINK} coppice_catch coppice_options)
    target_compile_options(${target} PRIVATE ${COPPICE_TEST_OPTIONS})
    add_test(NAME ${arg_NAME} COMMAND ${target})
    if(NOT arg_TIMEOUT)
        set(arg_TIMEOUT 300)
    endif()
    set_tests_properties(${arg_NAME} PROPERTIES TIMEOUT ${arg_TIMEOUT} LABELS "${arg_LABELS}")
endfunction()

set(COPPICE_FUZZ_SECONDS 10 CACHE STRING "How long ctest runs each fuzzer")
if(COPPICE_FUZZERS)
    add_custom_target(fuzzers) # all of them, and what they need
endif()
function(coppice_fuzzer)
    cmake_parse_arguments(PARSE_ARGV 0 arg "" "NAME" "SOURCES;LINK")
    if(NOT COPPICE_FUZZERS)
        return()
    endif()
    set(target fuzz-${arg_NAME})
    add_executable(${target} ${arg_SOURCES})
    target_link_libraries(${target} PRIVATE ${arg_LINK} coppice_options)
    target_link_options(${target} PRIVATE -fsanitize=fuzzer)
    add_dependencies(fuzzers ${target})
    math(EXPR timeout "${COPPICE_FUZZ_SECONDS} + 120")
    # An input that failed is kept under build/, to be run again by `fuzz-NAME FILE`.
    add_test(NAME ${target} COMMAND ${target} -max_total_time=${COPPICE_FUZZ_SECONDS}
        -max_len=200 -len_control=0 -timeout=30 -rss_limit_mb=2048 -print_final_stats=1 -artifact_prefix=${CMAKE_BINARY_DIR}/${target}-)
    set_tests_properties(${target} PROPERTIES LABELS fuzz TIMEOUT ${timeout})
endfunction()

# SPDX-License-Identifier: Apache-2.0
# ciranda_embed(target file symbol): compiles a file's bytes into a target as `const unsigned char symbol[]` (NUL-terminated,
# the NUL not counted) and `const size_t symbol_size`. Why not xxd or .incbin: neither is in a bare toolchain's promises, and
# CMake is needed anyway. As a script (-DEMBED_INPUT=...) this file is the generator.
if(DEFINED EMBED_INPUT)
    file(READ "${EMBED_INPUT}" hex HEX)
    string(LENGTH "${hex}" digits)
    math(EXPR size "${digits} / 2")
    string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${hex}")
    string(REGEX REPLACE "(................................................................................)" "\\1\n" bytes "${bytes}")
    file(WRITE "${EMBED_OUTPUT}" "/* SPDX-License-Identifier: Apache-2.0 */
/* Generated from ${EMBED_NAME} by cmake/embed.cmake. */
#include <stddef.h>
extern const unsigned char ${EMBED_SYMBOL}[];
extern const size_t ${EMBED_SYMBOL}_size;
const unsigned char ${EMBED_SYMBOL}[] = {\n${bytes}0x00};
const size_t ${EMBED_SYMBOL}_size = ${size};
")
    return()
endif()

set(CIRANDA_EMBED_SCRIPT ${CMAKE_CURRENT_LIST_FILE})
function(ciranda_embed target file symbol)
    set(output ${CMAKE_BINARY_DIR}/generated/${symbol}.c)
    get_filename_component(name ${file} NAME)
    add_custom_command(OUTPUT ${output}
        COMMAND ${CMAKE_COMMAND} -DEMBED_INPUT=${file} -DEMBED_OUTPUT=${output} -DEMBED_SYMBOL=${symbol}
                -DEMBED_NAME=${name} -P ${CIRANDA_EMBED_SCRIPT}
        DEPENDS ${file} ${CIRANDA_EMBED_SCRIPT} VERBATIM)
    target_sources(${target} PRIVATE ${output})
endfunction()

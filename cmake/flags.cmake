# SPDX-License-Identifier: Apache-2.0
# One set of flags for every target: warnings, hardening, sanitizers.
add_compile_options(-Wall -Wextra -Wshadow -Wpointer-arith -Wcast-qual -Wundef -Wvla
                    -fno-strict-aliasing -fno-plt -fstack-protector-strong)
add_compile_options($<$<COMPILE_LANGUAGE:C>:-Wstrict-prototypes>
                    $<$<COMPILE_LANGUAGE:C>:-Wmissing-prototypes>)
add_link_options(-Wl,-z,relro -Wl,-z,now -Wl,-z,noexecstack -Wl,--as-needed)
add_compile_definitions(_GNU_SOURCE)
if(SALVO_WERROR)
  add_compile_options(-Werror)
endif()
if(SALVO_SANITIZE)
  add_compile_options(-fsanitize=${SALVO_SANITIZE} -fno-omit-frame-pointer
                      -fno-sanitize-recover=all)
  add_link_options(-fsanitize=${SALVO_SANITIZE})
elseif(CMAKE_BUILD_TYPE STREQUAL "Release" OR CMAKE_BUILD_TYPE STREQUAL "RelWithDebInfo")
  add_compile_definitions(_FORTIFY_SOURCE=2)
endif()

# SPDX-License-Identifier: Apache-2.0
# What an installation holds: public headers, both libraries, salvo.pc and a CMake package with
# salvo::salvo (shared, needs nothing else) and salvo::salvo_static (needs the development files
# of all that salvo.pc.in names in Libs.private).
# What belongs to the command is installed by bindings/cli.
include(CMakePackageConfigHelpers)
set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/salvo)

install(DIRECTORY engine/include/salvo DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}
        COMPONENT development FILES_MATCHING PATTERN "*.h")
foreach(target salvo salvo_static)
  install(TARGETS ${target} EXPORT ${target}
          LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT runtime
                  NAMELINK_COMPONENT development
          ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT development)
  install(EXPORT ${target} NAMESPACE salvo:: FILE ${target}-targets.cmake
          DESTINATION ${package_dir} COMPONENT development)
endforeach()

configure_package_config_file(cmake/salvoConfig.cmake.in ${PROJECT_BINARY_DIR}/salvoConfig.cmake
                              INSTALL_DESTINATION ${package_dir})
# Before 1.0 a minor version may change the interface.
write_basic_package_version_file(${PROJECT_BINARY_DIR}/salvoConfigVersion.cmake
                                 COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/salvoConfig.cmake
              ${PROJECT_BINARY_DIR}/salvoConfigVersion.cmake
        DESTINATION ${package_dir} COMPONENT development)

# salvo.pc names its own place relative to itself, so that a copied prefix still works.
file(RELATIVE_PATH pc_to_prefix ${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig ${CMAKE_INSTALL_PREFIX})
configure_file(cmake/salvo.pc.in ${PROJECT_BINARY_DIR}/salvo.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/salvo.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig
        COMPONENT development)

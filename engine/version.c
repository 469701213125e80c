/* SPDX-License-Identifier: Apache-2.0
 *
 * The version of the library that is linked, which may differ from the headers compiled against.
 */
#include <salvo/version.h>

const char *salvo_version(void)
{
    return SALVO_VERSION;
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * The parts of the page, taken into the program at build time as strings.
 */
#include "report.h"

#define EMBED(name, path)                                        \
    __asm__(".pushsection .rodata\n"                             \
            ".globl " name "\n.hidden " name "\n" name ":\n"     \
            ".incbin \"" path "\"\n.byte 0\n.popsection\n")

EMBED("salvo_report_page", SALVO_REPORT_DIR "/page.html");
EMBED("salvo_report_style", SALVO_REPORT_DIR "/page.css");
EMBED("salvo_report_script", SALVO_REPORT_DIR "/page.js");
#ifdef SALVO_CHART_JS
EMBED("salvo_report_chart", SALVO_CHART_JS);
#else
const char salvo_report_chart[] = "";
#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* admission: see admission.h. The number is advisory: workers that look at the same time may each let one in too many. */
#include "actors/admission.h"

#include "actors/services.h"
#include "runtime/metrics.h"
#include "runtime/sometimes.h"
#include "storage/journal.h"

static struct metric refusals;

void admission_metrics_register(void)
{
    refusals = metrics_register_counter("admission_refusals_total",
                                        "Messages refused because too many records wait for the disk", NULL);
}

enum err admission_check(const struct services *services)
{
    if (services->is_draining)
        return ERR_SHUTDOWN;
    uint32_t max = services->records_waiting_max ? services->records_waiting_max : ADMISSION_RECORDS_WAITING_MAX;
    bool is_open = journal_appends_waiting(services->journal) < max;
    SOMETIMES(ADMISSION_CLOSED, !is_open);
    if (is_open)
        return OK;
    metrics_add(refusals, 1);
    return ERR_OVERLOAD;
}

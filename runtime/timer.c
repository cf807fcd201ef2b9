/* SPDX-License-Identifier: Apache-2.0 */
/* timer: the wheel of a worker, for its own thread. The wheel itself, which knows no worker, is timer_wheel.c. */
#include "runtime/worker_internal.h"

void timer_start(struct worker *worker, struct timer *timer, uint64_t deadline_ns)
{
    ASSERT_CURRENT(worker);
    ASSERT(timer->on_fire);
    timer_wheel_start(&worker->wheel, timer, deadline_ns);
}

void timer_cancel(struct worker *worker, struct timer *timer)
{
    ASSERT_CURRENT(worker);
    timer_wheel_cancel(&worker->wheel, timer);
}

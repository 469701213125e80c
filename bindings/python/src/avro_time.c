/* SPDX-License-Identifier: Apache-2.0
 *
 * Dates and times as Avro's numbers. Guarantees: an aware datetime is its instant, whatever its
 * zone; a naive one is local time (timestamp-*), as fastavro has it; local-timestamp-* takes the
 * clock's face and looks at no zone. What is finer than the type is cut off towards the past.
 */
#include "avro.h"

#include <datetime.h>
#include <time.h>

enum { UNIX_ORDINAL = 719163, DAY_S = 86400 };
#define US_PER_S INT64_C(1000000)

bool engine_avro_time_ready(void)
{
    if (PyDateTimeAPI == NULL)
        PyDateTime_IMPORT;
    return PyDateTimeAPI != NULL;
}

/* Days since 1970-01-01. */
static int64_t days_of(PyObject *date)
{
    static const int before[] = {0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334};
    int year = PyDateTime_GET_YEAR(date), month = PyDateTime_GET_MONTH(date);
    bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    int64_t past = year - 1;
    int64_t days = past * 365 + past / 4 - past / 100 + past / 400 + before[month - 1];
    return days + (leap && month > 2) + PyDateTime_GET_DAY(date) - UNIX_ORDINAL;
}

/* The clock's face as microseconds since 1970. */
static int64_t face_us(PyObject *value)
{
    int64_t seconds = days_of(value) * DAY_S + PyDateTime_DATE_GET_HOUR(value) * 3600 +
                      PyDateTime_DATE_GET_MINUTE(value) * 60 + PyDateTime_DATE_GET_SECOND(value);
    return seconds * US_PER_S + PyDateTime_DATE_GET_MICROSECOND(value);
}

static int local_us(PyObject *value, int64_t *us)
{
    struct tm face = {.tm_year = PyDateTime_GET_YEAR(value) - 1900,
                      .tm_mon = PyDateTime_GET_MONTH(value) - 1,
                      .tm_mday = PyDateTime_GET_DAY(value),
                      .tm_hour = PyDateTime_DATE_GET_HOUR(value),
                      .tm_min = PyDateTime_DATE_GET_MINUTE(value),
                      .tm_sec = PyDateTime_DATE_GET_SECOND(value),
                      .tm_wday = -1, /* mktime sets it unless it fails */
                      .tm_isdst = -1};
    time_t seconds = mktime(&face);
    if (seconds == -1 && face.tm_wday == -1) {
        PyErr_SetString(PyExc_OverflowError, "this local time is out of range");
        return -1;
    }
    *us = (int64_t)seconds * US_PER_S + PyDateTime_DATE_GET_MICROSECOND(value);
    return 1;
}

static int instant_us(PyObject *value, int64_t *us)
{
    PyObject *zone = PyDateTime_DATE_GET_TZINFO(value);
    if (zone == Py_None)
        return local_us(value, us);
    *us = face_us(value);
    if (zone == PyDateTime_TimeZone_UTC)
        return 1;
    PyObject *offset = PyObject_CallMethod(value, "utcoffset", NULL);
    if (offset == NULL)
        return -1;
    if (PyDelta_Check(offset))
        *us -= (PyDateTime_DELTA_GET_DAYS(offset) * INT64_C(86400) +
                PyDateTime_DELTA_GET_SECONDS(offset)) * US_PER_S +
               PyDateTime_DELTA_GET_MICROSECONDS(offset);
    int done = PyDelta_Check(offset) ? 1 : local_us(value, us); /* None: it is naive after all */
    Py_DECREF(offset);
    return done;
}

static int64_t time_us(PyObject *value)
{
    int64_t seconds = PyDateTime_TIME_GET_HOUR(value) * 3600 +
                      PyDateTime_TIME_GET_MINUTE(value) * 60 + PyDateTime_TIME_GET_SECOND(value);
    return seconds * US_PER_S + PyDateTime_TIME_GET_MICROSECOND(value);
}

static int64_t floor_millis(int64_t us)
{
    return us >= 0 ? us / 1000 : -((-us + 999) / 1000);
}

int engine_avro_time(avro_kind kind, PyObject *value, int64_t *number)
{
    int done = 1;
    if (kind == AVRO_DATE) {
        if (!PyDate_Check(value))
            return 0;
        *number = days_of(value);
        return 1;
    }
    if (kind == AVRO_TIME_MILLIS || kind == AVRO_TIME_MICROS) {
        if (!PyTime_Check(value))
            return 0;
        *number = time_us(value);
    } else {
        if (!PyDateTime_Check(value))
            return 0;
        if (kind == AVRO_LOCAL_MILLIS || kind == AVRO_LOCAL_MICROS)
            *number = face_us(value);
        else
            done = instant_us(value, number);
    }
    if (kind == AVRO_TIME_MILLIS || kind == AVRO_TIMESTAMP_MILLIS || kind == AVRO_LOCAL_MILLIS)
        *number = floor_millis(*number);
    return done;
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * The settlement window: see the header for the structure and its invariants. Finding an offset is
 * one look where there are no gaps, else a binary search.
 */
#include "window.h"

#include <stdlib.h>
#include <string.h>

#define ROOM_LEAST 64u

void salvo_window_init(salvo_window *window, int64_t position, uint32_t most)
{
    *window = (salvo_window){.next = position, .most = most ? most : 1};
}

void salvo_window_free(salvo_window *window)
{
    free(window->offsets);
    *window = (salvo_window){.next = -1};
}

uint32_t salvo_window_room(const salvo_window *window)
{
    return window->most - window->count;
}

static int64_t *at(const salvo_window *window, uint32_t index)
{
    return &window->offsets[(window->head + index) & (window->room - 1)];
}

/* The offset at an index, settled or not. */
static int64_t offset_at(const salvo_window *window, uint32_t index)
{
    int64_t stored = *at(window, index);
    return stored < 0 ? ~stored : stored;
}

static bool grow(salvo_window *window)
{
    uint32_t room = window->room ? 2 * window->room : ROOM_LEAST;
    int64_t *offsets = malloc(room * sizeof *offsets);
    if (!offsets)
        return false;
    for (uint32_t i = 0; i < window->count; i++)
        offsets[i] = *at(window, i);
    free(window->offsets);
    window->offsets = offsets;
    window->room = room;
    window->head = 0;
    return true;
}

bool salvo_window_give(salvo_window *window, int64_t offset)
{
    if (window->count == window->most || offset < 0 || offset < window->next)
        return false;
    if (window->count == window->room && !grow(window))
        return false;
    *at(window, window->count) = offset;
    window->count++;
    window->unsettled++;
    window->next = offset + 1;
    return true;
}

void salvo_window_pass(salvo_window *window, int64_t offset)
{
    if (offset > window->next)
        window->next = offset;
}

/* The index of an offset; count when it is not there. */
static uint32_t find(const salvo_window *window, int64_t offset)
{
    if (window->count == 0 || offset < offset_at(window, 0))
        return window->count;
    /* Without gaps it is here; a gap only moves it to the left. */
    uint64_t distance = (uint64_t)(offset - offset_at(window, 0));
    uint32_t low = 0, high = distance < window->count ? (uint32_t)distance : window->count - 1;
    if (offset_at(window, high) == offset)
        return high;
    while (low < high) { /* the first that is not below */
        uint32_t middle = low + (high - low) / 2;
        if (offset_at(window, middle) < offset)
            low = middle + 1;
        else
            high = middle;
    }
    return offset_at(window, low) == offset ? low : window->count;
}

bool salvo_window_settle(salvo_window *window, int64_t offset)
{
    uint32_t index = offset < 0 ? window->count : find(window, offset);
    if (index == window->count || *at(window, index) < 0)
        return false;
    *at(window, index) = ~offset;
    window->unsettled--;
    while (window->count > 0 && *at(window, 0) < 0) {
        window->head = (window->head + 1) & (window->room - 1);
        window->count--;
    }
    return true;
}

int64_t salvo_window_position(const salvo_window *window)
{
    return window->count > 0 ? *at(window, 0) : window->next;
}

# SPDX-License-Identifier: Apache-2.0
"""Results made up for the tests of `salvo report`, as docs/formats.md describes them.

A histogram is encoded here, apart from the code under test: HdrHistogram V2, 3 digits.
"""

import base64
import json
import math
import random
import struct
import zlib

NASTY = '</script><script>alert(1)</script><img src=x onerror=alert(2)>"\'&\u2028{{data}}'


def index_of(value: int) -> int:
    """The place of a value in the array of counts: 2,048 places, then 1,024 an octave."""
    bucket = max(value.bit_length() - 11, 0)
    return (bucket << 10) + (value >> bucket)


def zigzag(value: int) -> bytes:
    word, out = (value << 1) ^ (value >> 63), b''
    while word >= 0x80 and len(out) < 8:
        out += bytes([word & 0x7F | 0x80])
        word >>= 7
    return out + bytes([word])


def encode(values: list[int]) -> str:
    counts: dict[int, int] = {}
    for value in values:
        counts[index_of(value)] = counts.get(index_of(value), 0) + 1
    payload, at = b'', 0
    for index in sorted(counts):
        if index > at:
            payload += zigzag(at - index)
        payload += zigzag(counts[index])
        at = index + 1
    plain = struct.pack('>IIIIQQd', 0x1C849313, len(payload), 0, 3, 1, 3_600_000_000_000, 1.0)
    packed = zlib.compress(plain + payload)
    return base64.b64encode(struct.pack('>II', 0x1C849314, len(packed)) + packed).decode()


def histogram(values: list[int], infinite: int = 0) -> dict:
    values = sorted(values)
    total = len(values) + infinite

    def at(percentile: float) -> int | None:
        rank = max(math.floor(percentile / 100 * total + 0.5), 1)
        return values[rank - 1] if rank <= len(values) else None

    names = {'p50': 50, 'p90': 90, 'p99': 99, 'p999': 99.9, 'p9999': 99.99, 'max': 100}
    return {'count': total, 'infinite': infinite, 'min_ns': values[0],
            'mean_ns': sum(values) // len(values), 'hdr': encode(values),
            **{name + '_ns': at(percentile) for name, percentile in names.items()}}


def result(name: str, seed: int = 1, scale: float = 1, lost: int = 0, seconds: int = 30,
           messages: int = 20000, **changes: object) -> dict:
    """A plausible result: latencies spread by a lognormal law, `lost` messages never arrive."""
    chance = random.Random(seed)

    def spread(median_ns: float, sigma: float = 0.5, infinite: int = 0) -> dict:
        values = [int(median_ns * scale * chance.lognormvariate(0, sigma)) + 1
                  for _ in range(messages - infinite)]
        return histogram(values, infinite)

    def second(at_s: int) -> dict:
        offered = int(50000 / scale)
        count = offered + chance.randrange(-400, 400)
        stalled = lost > 0 and at_s == seconds // 2
        return {'at_s': at_s, 'offered': offered, 'accepted': offered, 'refused': 0,
                'acknowledged': 0 if stalled else count,
                'p50_ns': None if stalled else int(2.1e6 * scale),
                'p99_ns': None if stalled else int(chance.uniform(6e6, 9e6) * scale)}

    return {
        'format': 'salvo-result', 'version': 1, 'name': name, 'client': 'salvo',
        'client_version': '0.1.0', 'broker': 'kafka', 'started_at': '2026-01-31T12:00:00Z',
        'warmup_s': 5, 'duration_s': seconds, 'processes': 1,
        'settings': {'kafka_acks': 'all', 'linger_us': str(int(5000 * scale))},
        'load': {'rate': '50k', 'arrivals': 'constant', 'size': '100', 'threads': 2, 'seed': 1},
        'machine': {'cpu': 'Some Processor @ 3 GHz', 'cores': 8, 'memory_bytes': 33 << 30,
                    'kernel': '6.1', 'clock': 'tsc'},
        'ledger': {'offered': 1750000, 'accepted': 1750000 - lost, 'refused_full': lost,
                   'refused_other': 0, 'acknowledged': 1750000 - lost, 'failed': 0,
                   'maybe_delivered': 0, 'expired': 0, 'dropped': 0, 'pending': 0},
        'offered_per_s': 50000, 'accepted_per_s': 49990.5, 'acknowledged_per_s': 49990.2,
        'bytes_per_s': 4999050, 'cpu_ns_per_message': 812.5 * scale,
        'columns': {'call': spread(120), 'accepted': spread(900, 0.9),
                    'acknowledged': spread(2.1e6, 0.6, lost)},
        'stages': {'enqueue': spread(60), 'queue': spread(5e5), 'broker': spread(9e5),
                   'total': spread(2e6)},
        'generator': {'lateness': spread(600), 'hiccups': spread(60000), 'steal_percent': 0.2},
        'valid': True, 'invalid_because': None,
        'over_time': [second(at_s) for at_s in range(seconds)], **changes}


def write(path: str, content: dict) -> str:
    with open(path, 'w', encoding='utf-8') as file:
        json.dump(content, file)
    return path


if __name__ == '__main__':  # a.json, b.json, nasty.json into the current folder
    write('a.json', result('kafka, linger 5 ms'))
    write('b.json', result('librdkafka', 2, 1.7, lost=60, client='librdkafka', valid=False,
                           invalid_because='the generator was late by more than a tenth'))
    write('nasty.json', result(NASTY, 3, invalid_because=NASTY, valid=False, client=NASTY,
                               settings={NASTY: NASTY}, machine={'cpu': NASTY}))

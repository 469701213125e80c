/* SPDX-License-Identifier: Apache-2.0
 *
 * What the peers of script/bench peers that are written in Java share: the schedule, the pace, the
 * measurement and the summary (docs/peers.md, docs/formats.md). Open loop: each message has its
 * intended time, and latencies count from it. The sending thread's CPU counts with its calls only.
 */
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.File;
import java.io.IOException;
import java.lang.management.ManagementFactory;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.Base64;
import java.util.HashMap;
import java.util.HashSet;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.locks.LockSupport;
import org.HdrHistogram.Histogram;

final class Play {
    static final int HEADER_BYTES = 4096, RECORD_BYTES = 16, BLOCK_BYTES = 1 << 20;
    static final int VALUE_MOST = 1_000_000;
    static final long HOUR_NS = 3_600_000_000_000L;

    /** A client: called by one thread. */
    interface Client {
        /** Hand over; false: refused, because the client's buffer is full. */
        boolean send(long atNs, byte[] key, byte[] value);

        /** Wait for all outcomes. */
        void drain();
    }

    /**
     * What was known in one second of the measured part: the sending thread counts the first two,
     * the one that takes outcomes the others. The last second has what came after it, too.
     */
    private static final class Second {
        long offered, accepted, failed;
        final Histogram acknowledged = histogram();
    }

    private final ByteBuffer records;
    private final JsonNode header;
    private final long messages;
    private final byte[] block;
    final long warmupNs;
    private final Map<String, String> settings = new HashMap<>();
    private final Set<String> asked = new HashSet<>();
    private final Histogram call = histogram(), accepted = histogram();
    private final Histogram lateness = histogram();
    private final Second[] seconds;
    private long offered, acceptedCount, failed, inAll = 1, callNs, startNs, lastNs; // 1: the first

    static void die(String text) {
        System.err.println("peer: " + text);
        System.exit(1);
    }

    private static Histogram histogram() {
        return new Histogram(1, HOUR_NS, 3);
    }

    Play(String path, String[] arguments) throws IOException {
        ByteBuffer file = ByteBuffer.wrap(Files.readAllBytes(Path.of(path)));
        file.order(ByteOrder.LITTLE_ENDIAN);
        if (file.capacity() < HEADER_BYTES) {
            die(path + ": not a schedule file");
        }
        header = new ObjectMapper().readTree(file.array(), 0, HEADER_BYTES);
        if (!"salvo-schedule".equals(header.path("format").asText())
                || header.path("version").asInt() != 1) {
            die(path + ": not a schedule of version 1");
        }
        messages = header.path("messages").asLong();
        if (messages < 1 || messages > (file.capacity() - HEADER_BYTES) / RECORD_BYTES) {
            die(path + ": " + messages + " messages are promised, fewer are there");
        }
        records = file;
        warmupNs = (long) (header.path("warmup_s").asDouble() * 1e9);
        seconds = new Second[(int) Math.ceil(header.path("duration_s").asDouble())];
        Arrays.setAll(seconds, i -> new Second());
        block = fill(header.path("payload").asText(), header.path("seed").asLong());
        for (String argument : arguments) {
            String[] parts = argument.split("=", 2);
            settings.put(parts[0], parts[1]);
        }
    }

    private static byte[] fill(String payload, long seed) {
        ByteBuffer words = ByteBuffer.allocate(BLOCK_BYTES).order(ByteOrder.LITTLE_ENDIAN);
        long x = seed == 0 ? 1 : seed;
        while (words.hasRemaining()) {
            x ^= x >>> 12;
            x ^= x << 25;
            x ^= x >>> 27;
            words.putLong(x * 2685821657736338717L);
        }
        byte[] block = words.array();
        if (payload.startsWith("ratio:")) {
            int keep = (int) (256 / Double.parseDouble(payload.substring(6)) + 0.5);
            for (int at = 0; at < BLOCK_BYTES; at += 256) {
                Arrays.fill(block, at + keep, at + 256, (byte) 0);
            }
        } else if (!payload.equals("random")) {
            die("payload '" + payload + "'; random and ratio:R are what all peers play");
        }
        return block;
    }

    /** A setting of the command line: all that was given must be asked for before the start. */
    String text(String key) {
        if (!settings.containsKey(key)) {
            die("the setting " + key + "=... is missing");
        }
        asked.add(key);
        return settings.get(key);
    }

    long number(String key) {
        return Long.parseLong(text(key));
    }

    private long atNs(long index) {
        return records.getLong(HEADER_BYTES + (int) index * RECORD_BYTES);
    }

    private int size(long index) {
        int size = records.getInt(HEADER_BYTES + (int) index * RECORD_BYTES + 8);
        if (size < 0 || size > VALUE_MOST || index > 0 && atNs(index) < atNs(index - 1)) {
            die("the schedule is damaged: times go backwards or a size is above its bound");
        }
        return size;
    }

    private long key(long index) {
        return records.getInt(HEADER_BYTES + (int) index * RECORD_BYTES + 12) & 0xffffffffL;
    }

    private byte[] value(long index) {
        int size = size(index);
        int at = (int) (index * 4099 % (BLOCK_BYTES - size));
        return Arrays.copyOfRange(block, at, at + size);
    }

    private Second secondOf(long now) {
        long second = Math.max(0, now - startNs - warmupNs) / 1_000_000_000;
        return seconds[(int) Math.min(second, seconds.length - 1)];
    }

    /** An outcome, each accepted message once; from one thread. */
    void settled(long atNs, boolean good) {
        long now = System.nanoTime();
        inAll += good ? 1 : 0;
        if (atNs < warmupNs) {
            return;
        }
        lastNs = now;
        if (good) {
            secondOf(now).acknowledged.recordValue(bounded(now - startNs - atNs));
        } else {
            failed++;
            secondOf(now).failed++;
        }
    }

    private static long bounded(long ns) {
        return Math.max(0, Math.min(HOUR_NS, ns));
    }

    private void note(long atNs, long begin, long end, boolean taken) {
        Second second = secondOf(end);
        offered++;
        second.offered++;
        callNs += end - begin;
        lateness.recordValue(bounded(begin - startNs - atNs));
        call.recordValue(bounded(end - begin));
        if (taken) {
            acceptedCount++;
            second.accepted++;
            accepted.recordValue(bounded(end - startNs - atNs));
        }
    }

    private static long processCpuNs() {
        return ((com.sun.management.OperatingSystemMXBean)
                ManagementFactory.getOperatingSystemMXBean()).getProcessCpuTime();
    }

    private static long threadCpuNs() {
        return ManagementFactory.getThreadMXBean().getCurrentThreadCpuTime();
    }

    /** Say that all is ready, wait for the word, play, and write the summary. */
    void run(Client client, String name, String version, String out) throws IOException {
        for (String key : settings.keySet()) {
            if (!asked.contains(key)) {
                die(key + ": not a setting of " + name);
            }
        }
        System.out.println("ready");
        if (System.in.read() < 0) {
            die("the start never came");
        }
        long startUnixNs = System.currentTimeMillis() * 1_000_000;
        startNs = System.nanoTime();
        long processNs = processCpuNs(), threadNs = threadCpuNs();
        boolean measuring = false;
        for (long i = 0; i < messages; i++) {
            long atNs = atNs(i);
            if (!measuring && atNs >= warmupNs) {
                measuring = true;
                processNs = processCpuNs();
                threadNs = threadCpuNs();
            }
            byte[] value = value(i);
            if (value.length >= 8) {
                ByteBuffer.wrap(value).order(ByteOrder.LITTLE_ENDIAN).putLong(startUnixNs + atNs);
            }
            byte[] key = key(i) == 0 ? null
                    : Long.toString(key(i)).getBytes(StandardCharsets.US_ASCII);
            long begin = waitUntil(startNs + atNs);
            boolean taken = client.send(atNs, key, value);
            if (measuring) {
                note(atNs, begin, System.nanoTime(), taken);
            }
        }
        client.drain();
        long own = threadCpuNs() - threadNs;
        long cpuNs = processCpuNs() - processNs - own + Math.min(callNs, own);
        write(name, version, out, cpuNs);
    }

    private static long waitUntil(long dueNs) {
        long now = System.nanoTime();
        while (now < dueNs) {
            LockSupport.parkNanos(dueNs - now);
            now = System.nanoTime();
        }
        return now;
    }

    private static String encode(Histogram histogram) {
        ByteBuffer buffer = ByteBuffer.allocate(histogram.getNeededByteBufferCapacity());
        int length = histogram.encodeIntoCompressedByteBuffer(buffer);
        return Base64.getEncoder().encodeToString(Arrays.copyOf(buffer.array(), length));
    }

    private void write(String name, String version, String out, long cpuNs) throws IOException {
        long durationNs = (long) (header.path("duration_s").asDouble() * 1e9);
        ObjectNode summary = new ObjectMapper().createObjectNode();
        Histogram acknowledged = histogram();
        for (Second second : seconds) {
            acknowledged.add(second.acknowledged);
            summary.withArray("over_time").addObject().put("offered", second.offered)
                    .put("accepted", second.accepted).put("failed", second.failed)
                    .put("acknowledged", second.acknowledged.getTotalCount())
                    .put("hdr", encode(second.acknowledged));
        }
        summary.put("client", name).put("version", version).put("offered", offered)
                .put("accepted", acceptedCount)
                .put("acknowledged", acknowledged.getTotalCount()).put("failed", failed)
                .put("acknowledged_in_all", inAll).put("cpu_ns", cpuNs)
                .put("wall_ns", Math.max(durationNs, lastNs - startNs - warmupNs))
                .put("call", encode(call)).put("accepted_hdr", encode(accepted))
                .put("acknowledged_hdr", encode(acknowledged)).put("lateness", encode(lateness));
        new ObjectMapper().writeValue(new File(out), summary);
    }

    private static long hash(long state, byte[] bytes) {
        for (byte b : bytes) {
            state = (state ^ b & 0xff) * 1099511628211L;
        }
        return state;
    }

    /** FNV-1a of the first messages and their values: Play --check SCHEDULE. */
    public static void main(String[] arguments) throws IOException {
        if (arguments.length != 2 || !arguments[0].equals("--check")) {
            die("usage: Play --check SCHEDULE");
        }
        Play play = new Play(arguments[1], new String[0]);
        long state = 0xcbf29ce484222325L, count = Math.min(1000, play.messages);
        for (long i = 0; i < count; i++) {
            ByteBuffer fields = ByteBuffer.allocate(RECORD_BYTES).order(ByteOrder.LITTLE_ENDIAN);
            fields.putLong(play.atNs(i)).putInt(play.size(i)).putInt((int) play.key(i));
            state = hash(hash(state, fields.array()), play.value(i));
        }
        System.out.printf("%016x %d%n", state, count);
    }
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * Writes tests/unit/murmur2_vectors.h on standard output: keys, their hash and their partitions,
 * as computed by Kafka's own Java client. Guarantees the same keys at every run. From the
 * project's folder, with a JDK (Debian: openjdk-17-jdk-headless):
 *   java -cp "$(script/broker kafka classpath)" tests/unit/Murmur2Vectors.java \
 *       >tests/unit/murmur2_vectors.h
 */
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Random;
import org.apache.kafka.clients.producer.internals.BuiltInPartitioner;
import org.apache.kafka.common.utils.AppInfoParser;
import org.apache.kafka.common.utils.Utils;

public class Murmur2Vectors {
    static final int[] COUNTS = {1, 2, 3, 4, 7, 12, 100};
    static final int ROW = 22; /* bytes of a key in a line of the header */

    static List<byte[]> keys() {
        List<byte[]> keys = new ArrayList<>();
        Random random = new Random(20260101);
        for (int len = 0; len <= 40; len++) {
            byte[] ascending = new byte[len], high = new byte[len], zero = new byte[len];
            byte[] any = new byte[len];
            for (int i = 0; i < len; i++) {
                ascending[i] = (byte) ('a' + i % 26);
                high[i] = (byte) (0xff - i);
            }
            random.nextBytes(any);
            keys.addAll(len == 0 ? List.of(zero) : List.of(ascending, high, zero, any));
        }
        String[] texts = {"salvo", "user-42", "Grüße", "naïve café", "ключ", "鍵",
            "日本語のキー", "مفتاح", "🚀", "e\u0301",
            "a\u0000b", "order:2026-01-01T00:00:00Z"};
        for (String text : texts)
            keys.add(text.getBytes(StandardCharsets.UTF_8));
        for (int i = 0; i < 25; i++)
            keys.add(("user-" + i * 7919).getBytes(StandardCharsets.UTF_8));
        for (int len : new int[] {41, 63, 64, 65, 127, 255, 256, 257}) {
            byte[] any = new byte[len];
            random.nextBytes(any);
            keys.add(any);
        }
        return keys;
    }

    static void print(byte[] key) {
        StringBuilder line = new StringBuilder();
        line.append(String.format("    {%d, 0x%08xu, {", key.length, Utils.murmur2(key)));
        for (int i = 0; i < COUNTS.length; i++)
            line.append(i == 0 ? "" : ", ")
                .append(BuiltInPartitioner.partitionForKey(key, COUNTS[i]));
        System.out.println(line.append("},"));
        if (key.length == 0)
            System.out.println("     \"\"},");
        for (int from = 0; from < key.length; from += ROW) {
            StringBuilder bytes = new StringBuilder("     \"");
            for (byte b : Arrays.copyOfRange(key, from, Math.min(from + ROW, key.length)))
                bytes.append(String.format("\\x%02x", b));
            System.out.println(bytes.append(from + ROW < key.length ? "\"" : "\"},"));
        }
    }

    public static void main(String[] args) {
        System.out.println("/* SPDX-License-Identifier: Apache-2.0\n *");
        System.out.println(" * Keys, murmur2 and partitions as Kafka's Java client "
            + AppInfoParser.getVersion() + " computes them.");
        System.out.println(" * Made by Murmur2Vectors.java: guaranteed to be its output.\n */");
        System.out.println("#ifndef SALVO_MURMUR2_VECTORS_H\n#define SALVO_MURMUR2_VECTORS_H\n");
        System.out.println("#include <stddef.h>\n#include <stdint.h>\n");
        System.out.println("static const int32_t murmur2_partition_counts[" + COUNTS.length
            + "] = {" + Arrays.toString(COUNTS).replaceAll("[\\[\\]]", "") + "};\n");
        System.out.println("static const struct murmur2_vector {\n    size_t len;\n"
            + "    uint32_t hash;\n    int32_t partition[" + COUNTS.length
            + "]; /* by murmur2_partition_counts */\n    const char *key;\n"
            + "} murmur2_vectors[] = {");
        keys().forEach(Murmur2Vectors::print);
        System.out.println("};\n\n#endif");
    }
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * Apache Kafka's own KafkaProducer: send() with a callback, which its I/O thread calls. A full
 * buffer refuses (max.block.ms is 0).
 */
import java.util.Arrays;
import java.util.HashMap;
import java.util.Map;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.errors.TimeoutException;
import org.apache.kafka.common.serialization.ByteArraySerializer;
import org.apache.kafka.common.utils.AppInfoParser;

final class Peer implements Play.Client {
    private static final int OPEN_TRIES = 600, OPEN_PAUSE_MS = 50;

    private final Play play;
    private final String topic;
    private final Thread sender = Thread.currentThread();
    private final KafkaProducer<byte[], byte[]> producer;
    private boolean refused;

    Peer(Play play) {
        this.play = play;
        topic = play.text("topic");
        Map<String, Object> wish = new HashMap<>();
        wish.put("bootstrap.servers", play.text("address"));
        wish.put("acks", play.text("acks"));
        wish.put("enable.idempotence", play.text("idempotence"));
        wish.put("compression.type", play.text("compression"));
        wish.put("max.in.flight.requests.per.connection", (int) play.number("in_flight"));
        wish.put("batch.size", (int) play.number("batch_bytes"));
        wish.put("buffer.memory", play.number("buffer_bytes"));
        wish.put("linger.ms", play.number("linger_us") / 1000);
        wish.put("max.block.ms", 0L);
        producer = new KafkaProducer<>(wish, new ByteArraySerializer(), new ByteArraySerializer());
    }

    /** The metadata come while send() is refused for want of them; then the first message. */
    void first() throws Exception {
        for (int i = 0;; i++) {
            try {
                producer.partitionsFor(topic);
                break;
            } catch (TimeoutException e) {
                if (i == OPEN_TRIES) {
                    Play.die("KafkaProducer: no metadata: " + e.getMessage());
                }
                Thread.sleep(OPEN_PAUSE_MS);
            }
        }
        producer.send(new ProducerRecord<>(topic, "first".getBytes())).get();
    }

    @Override
    public boolean send(long atNs, byte[] key, byte[] value) {
        refused = false;
        producer.send(new ProducerRecord<>(topic, key, value), (metadata, error) -> {
            if (Thread.currentThread() == sender) {
                refused = true; // only a refusal calls back before send() returns
            } else {
                play.settled(atNs, error == null);
            }
        });
        return !refused;
    }

    @Override
    public void drain() {
        producer.flush();
    }

    public static void main(String[] arguments) throws Exception {
        if (arguments.length < 2) {
            Play.die("usage: Peer SCHEDULE OUT KEY=VALUE...");
        }
        Play play = new Play(arguments[0],
                Arrays.copyOfRange(arguments, 2, arguments.length));
        Peer peer = new Peer(play);
        peer.first();
        play.run(peer, "KafkaProducer", AppInfoParser.getVersion(), arguments[1]);
        peer.producer.close();
    }
}

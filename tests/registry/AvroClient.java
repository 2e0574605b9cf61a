import io.apicurio.registry.serde.avro.AvroKafkaDeserializer;
import io.apicurio.registry.serde.avro.AvroKafkaSerializer;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import org.apache.avro.generic.GenericRecord;
import org.apache.avro.util.Utf8;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/**
 * Kafka's own client with the Avro (de)serialisers of Apicurio Registry.
 *
 * <pre>java -cp 'JARS/*' AvroClient.java BOOTSTRAP REGISTRY TOPIC</pre>
 *
 * It reads the first record of the topic, prints it as JSON, and writes a copy in which the member "item" is "milk",
 * with the newest schema that the registry has for the topic.
 */
public class AvroClient {
    private static final int PATIENCE_S = 30;

    public static void main(String[] arguments) throws Exception {
        Map<String, Object> settings = Map.of(
                "bootstrap.servers", arguments[0],
                "apicurio.registry.url", arguments[1],
                "apicurio.registry.use-id", "contentId",
                "apicurio.registry.find-latest", true,
                "group.id", arguments[2],
                "auto.offset.reset", "earliest");
        GenericRecord record = read(settings, arguments[2]);
        System.out.println(record);
        record.put("item", new Utf8("milk"));
        try (KafkaProducer<String, GenericRecord> producer =
                new KafkaProducer<>(settings, new StringSerializer(), serializer(settings))) {
            producer.send(new ProducerRecord<>(arguments[2], record)).get(PATIENCE_S, TimeUnit.SECONDS);
        }
        System.exit(0);  // the registry's client keeps threads that need not be waited for
    }

    private static AvroKafkaSerializer<GenericRecord> serializer(Map<String, Object> settings) {
        AvroKafkaSerializer<GenericRecord> made = new AvroKafkaSerializer<>();
        made.configure(settings, false);
        return made;
    }

    private static GenericRecord read(Map<String, Object> settings, String topic) {
        AvroKafkaDeserializer<GenericRecord> deserializer = new AvroKafkaDeserializer<>();
        deserializer.configure(settings, false);
        try (KafkaConsumer<String, GenericRecord> consumer =
                new KafkaConsumer<>(settings, new StringDeserializer(), deserializer)) {
            consumer.subscribe(List.of(topic));
            for (int i = 0; i < PATIENCE_S; i++) {
                for (ConsumerRecord<String, GenericRecord> found : consumer.poll(Duration.ofSeconds(1))) {
                    return found.value();
                }
            }
        }
        throw new IllegalStateException("nothing was stored");
    }
}

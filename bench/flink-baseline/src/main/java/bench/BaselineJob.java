package bench;

import com.fasterxml.jackson.databind.ObjectMapper;
import java.time.Duration;
import java.time.Instant;
import org.apache.flink.api.common.eventtime.WatermarkStrategy;
import org.apache.flink.api.common.functions.OpenContext;
import org.apache.flink.api.common.functions.RichMapFunction;
import org.apache.flink.api.java.utils.ParameterTool;
import org.apache.flink.connector.file.src.FileSource;
import org.apache.flink.connector.file.src.reader.TextLineInputFormat;
import org.apache.flink.core.fs.Path;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.streaming.api.functions.sink.v2.DiscardingSink;
import org.apache.flink.streaming.api.windowing.assigners.TumblingEventTimeWindows;

/**
 * The job as a Flink user writes it: NDJSON file, Jackson, keyBy(device_id), tumbling minutes, aggregate. The rows are
 * discarded; there is no checkpoint unless `--checkpoint MS` asks for them.
 */
public class BaselineJob {
    /** JSON text to record, one ObjectMapper per task. */
    public static class Parse extends RichMapFunction<String, SensorRecord> {
        private transient ObjectMapper mapper;
        @Override public void open(OpenContext c) { mapper = new ObjectMapper(); }
        @Override public SensorRecord map(String s) throws Exception { return mapper.readValue(s, SensorRecord.class); }
    }

    /** Counts what came in, for the rate. */
    public static class CountLine extends RichMapFunction<String, String> {
        private transient Meter.Slot slot;
        @Override public void open(OpenContext c) { slot = Meter.slot(); }
        @Override public String map(String s) { slot.add(); return s; }
    }

    /** Times are RFC 3339, or whole milliseconds since 1970. */
    static long millis(String time) {
        return time.indexOf('-') < 0 ? Long.parseLong(time) : Instant.parse(time).toEpochMilli();
    }

    public static void main(String[] args) throws Exception {
        ParameterTool p = ParameterTool.fromArgs(args);
        StreamExecutionEnvironment env = StreamExecutionEnvironment.getExecutionEnvironment();
        env.setParallelism(p.getInt("parallelism", 2));
        env.getConfig().enableObjectReuse();
        if (p.getLong("checkpoint", 0) > 0) env.enableCheckpointing(p.getLong("checkpoint"));
        FileSource<String> file =
                FileSource.forRecordStreamFormat(new TextLineInputFormat(), new Path(p.get("path"))).build();
        env.fromSource(file, WatermarkStrategy.noWatermarks(), "file")
                .map(new CountLine())
                .map(new Parse())
                .assignTimestampsAndWatermarks(
                        WatermarkStrategy.<SensorRecord>forBoundedOutOfOrderness(Duration.ofSeconds(5))
                                .withTimestampAssigner((r, t) -> millis(r.time)))
                .keyBy(r -> r.deviceId)
                .window(TumblingEventTimeWindows.of(Duration.ofMinutes(1)))
                .aggregate(new RollupAggregate())
                .map(new Check())
                .sinkTo(new DiscardingSink<>());
        env.execute("baseline");
    }
}

package bench;

import java.util.Locale;
import org.apache.flink.api.common.functions.RichMapFunction;

/** Counts the rows and sums them up, so that they can be compared with what Tidemill stored from the same file. */
public class Check extends RichMapFunction<Rollup, Rollup> {
    private long rows, messages, motion, counters;
    private double means, extremes;

    @Override public Rollup map(Rollup r) {
        rows++;
        messages += r.count;
        if (r.motionDetected) motion++;
        for (double v : r.means) means += v;
        for (long v : r.counters) counters += v;
        extremes += r.temperatureMin + r.temperatureMax;
        return r;
    }

    @Override public void close() {
        Meter.line(String.format(Locale.ROOT, "R %d %d %d %d %.3f %.3f", rows, messages, motion, counters, means, extremes));
    }
}

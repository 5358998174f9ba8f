package bench;

import org.apache.flink.api.common.functions.AggregateFunction;

/** Binds the accumulator to Flink's window operator. */
public class RollupAggregate implements AggregateFunction<SensorRecord, Acc, Rollup> {
    @Override public Acc createAccumulator() { return new Acc(); }
    @Override public Acc add(SensorRecord r, Acc a) { a.add(r); return a; }
    @Override public Rollup getResult(Acc a) { return Rollup.of(a); }
    @Override public Acc merge(Acc a, Acc b) { throw new UnsupportedOperationException(); }
}

package bench;

/** The output row of one device and one window. */
public class Rollup {
    public String deviceId, deviceType, customerId, siteId;
    public double latitude, longitude, altitude, temperatureMin, temperatureMax, temperatureSum;
    public int status;
    public boolean motionDetected;
    public long count;
    public double[] means;
    public long[] counters;

    public static Rollup of(Acc a) {
        Rollup r = new Rollup();
        r.deviceId = a.deviceId; r.deviceType = a.deviceType; r.customerId = a.customerId; r.siteId = a.siteId;
        r.latitude = a.latitude; r.longitude = a.longitude; r.altitude = a.altitude; r.status = a.status;
        r.temperatureMin = a.temperatureMin; r.temperatureMax = a.temperatureMax; r.temperatureSum = a.gauges[0];
        r.count = a.count;
        r.motionDetected = a.motionTrue * 2 > a.count;
        r.means = new double[Acc.GAUGES];
        for (int i = 0; i < Acc.GAUGES; i++) r.means[i] = a.gauges[i] / a.count;
        r.counters = a.counters;
        return r;
    }
}

package bench;

/**
 * Aggregate of one device and one window, no more than what the preset `sensor` of Tidemill keeps: sums of the gauges
 * and counters, minimum and maximum of the temperature, votes for motion, the first attributes. Plain double sums, the
 * first status in place of the most frequent one, no quality columns: less work than Tidemill does.
 */
public class Acc {
    public static final int GAUGES = 10, COUNTERS = 5;
    public long count, motionTrue;
    public double temperatureMin, temperatureMax;
    public double[] gauges = new double[GAUGES];
    public long[] counters = new long[COUNTERS];
    public String deviceId, deviceType, customerId, siteId;
    public double latitude, longitude, altitude;
    public int status;

    public void add(SensorRecord r) {
        if (count == 0) {
            deviceId = r.deviceId; deviceType = r.deviceType; customerId = r.customerId; siteId = r.siteId;
            latitude = r.latitude; longitude = r.longitude; altitude = r.altitude; status = r.status;
            temperatureMin = temperatureMax = r.temperature;
        }
        if (r.temperature < temperatureMin) temperatureMin = r.temperature;
        if (r.temperature > temperatureMax) temperatureMax = r.temperature;
        gauges[0] += r.temperature; gauges[1] += r.humidity; gauges[2] += r.pressure; gauges[3] += r.co2Level;
        gauges[4] += r.noiseLevel; gauges[5] += r.lightLevel; gauges[6] += r.batteryLevel;
        gauges[7] += r.signalStrength; gauges[8] += r.memoryUsage; gauges[9] += r.cpuUsage;
        counters[0] += r.errorCount; counters[1] += r.packetsSent; counters[2] += r.packetsReceived;
        counters[3] += r.bytesSent; counters[4] += r.bytesReceived;
        if (r.motionDetected) motionTrue++;
        count++;
    }
}

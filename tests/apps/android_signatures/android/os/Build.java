package android.os;

public class Build {
    public static final String HARDWARE = named();
    public static final String MANUFACTURER = named();
    public static final String MODEL = named();
    public static final String PRODUCT = named();
    public static final String SOC_MANUFACTURER = named();
    public static final String SOC_MODEL = named();
    public static final String UNKNOWN = "unknown";

    private static native String named();

    public static class VERSION {
        public static final String RELEASE = named();
        public static final int SDK_INT = RELEASE.length();
    }

    public static class VERSION_CODES {
        public static final int Q = 29;
        public static final int S = 31;
    }
}

package android.graphics;

public class Color {
    public static final int GRAY = -7829368;

    public static native int rgb(int red, int green, int blue);
}

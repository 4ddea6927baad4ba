package android.graphics;

public class Paint {
    public static final int ANTI_ALIAS_FLAG = 1;

    public Paint(int flags) {}

    public native int getColor();

    public native float getStrokeWidth();

    public native float getTextSize();

    public native float measureText(String text);

    public native void setColor(int color);

    public native void setStrokeWidth(float width);

    public native void setTextSize(float textSize);
}

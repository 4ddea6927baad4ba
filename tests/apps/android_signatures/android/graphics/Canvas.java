package android.graphics;

public class Canvas {
    public native void drawLine(float startX, float startY, float stopX, float stopY, Paint paint);

    public native void drawText(String text, float x, float y, Paint paint);
}

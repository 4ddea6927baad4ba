package android.graphics;

public class Matrix {
    public Matrix() {}

    public native boolean postScale(float sx, float sy);

    public native void setRotate(float degrees);
}

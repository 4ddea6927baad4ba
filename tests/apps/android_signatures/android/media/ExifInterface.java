package android.media;

import java.io.IOException;
import java.io.InputStream;

public class ExifInterface {
    public static final int ORIENTATION_NORMAL = 1;
    public static final String TAG_ORIENTATION = "Orientation";

    public ExifInterface(InputStream inputStream) throws IOException {}

    public native int getAttributeInt(String tag, int defaultValue);
}

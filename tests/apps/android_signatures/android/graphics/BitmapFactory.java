package android.graphics;

import java.io.InputStream;

public class BitmapFactory {
    public static native Bitmap decodeStream(InputStream is, Rect outPadding, Options opts);

    public static class Options {
        public boolean inJustDecodeBounds;
        public int outHeight;
        public int outWidth;

        public Options() {}
    }
}

package android.content;

import android.content.res.AssetManager;
import java.io.File;

public class ContextWrapper extends Context {
    public native AssetManager getAssets();

    public native ContentResolver getContentResolver();

    public native File getExternalFilesDir(String type);

    public native File getFilesDir();

    public native void startActivity(Intent intent);
}

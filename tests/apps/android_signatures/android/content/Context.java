package android.content;

import android.content.res.AssetManager;
import java.io.File;

public abstract class Context {
    public abstract AssetManager getAssets();

    public abstract ContentResolver getContentResolver();

    public abstract File getExternalFilesDir(String type);

    public abstract File getFilesDir();

    public final native String getString(int resId);

    public final native <T> T getSystemService(Class<T> serviceClass);

    public abstract void startActivity(Intent intent);
}

package android.app;

import android.content.Intent;
import android.os.Bundle;
import android.view.ContextThemeWrapper;
import android.view.View;
import android.view.Window;

public class Activity extends ContextThemeWrapper {
    public native <T extends View> T findViewById(int id);

    public native Intent getIntent();

    public native Window getWindow();

    protected native void onCreate(Bundle savedInstanceState);

    protected native void onDestroy();

    protected native void onNewIntent(Intent intent);

    public final native void runOnUiThread(Runnable action);

    public native void setContentView(int layoutResID);
}

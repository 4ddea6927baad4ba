package android.content;

public class Intent {
    public static final String ACTION_SEND = "android.intent.action.SEND";
    public static final String EXTRA_TEXT = "android.intent.extra.TEXT";

    public Intent(String action) {}

    public Intent(Context packageContext, Class<?> cls) {}

    public static native Intent createChooser(Intent target, CharSequence title);

    public native float getFloatExtra(String name, float defaultValue);

    public native int getIntExtra(String name, int defaultValue);

    public native String getStringExtra(String name);

    public native Intent putExtra(String name, String value);

    public native Intent setType(String type);
}

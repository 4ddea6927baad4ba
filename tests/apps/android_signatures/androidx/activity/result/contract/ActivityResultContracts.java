package androidx.activity.result.contract;

import android.net.Uri;
import androidx.activity.result.PickVisualMediaRequest;

public final class ActivityResultContracts {
    public static final class RequestPermission extends ActivityResultContract<String, Boolean> {}

    public static class PickVisualMedia extends ActivityResultContract<PickVisualMediaRequest, Uri> {
        public interface VisualMediaType {}

        /** Of Kotlin an object, which Kotlin names as Java names this field. */
        public static final VisualMediaType ImageOnly = null;
    }
}

package androidx.activity.result;

import androidx.activity.result.contract.ActivityResultContracts.PickVisualMedia.VisualMediaType;

public final class PickVisualMediaRequest {
    public static final class Builder {
        public native PickVisualMediaRequest build();

        public native Builder setMediaType(VisualMediaType mediaType);
    }
}

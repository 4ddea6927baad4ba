import AVFoundation
import EdgeViTCore

/// The back camera's frames, upright.
final class Camera: NSObject {
    let session = AVCaptureSession()

    private let queue = DispatchQueue(label: "io.edgevit.app.camera")
    private let output = AVCaptureVideoDataOutput()
    private var arrived: AsyncStream<Pixels>.Continuation?

    /// Starts the camera. Of the frames that nobody waited for, all but the newest are dropped.
    func frames() async throws -> AsyncStream<Pixels> {
        guard await AVCaptureDevice.requestAccess(for: .video) else {
            throw Problem("EdgeViT may not use the camera: allow it in Settings, or choose a photo.")
        }
        let (frames, arrived) = AsyncStream.makeStream(of: Pixels.self, bufferingPolicy: .bufferingNewest(1))
        try await withCheckedThrowingContinuation { (done: CheckedContinuation<Void, any Error>) in
            queue.async { done.resume(with: Result { try self.run(arrived) }) }
        }
        return frames
    }

    func stop() {
        queue.async { self.session.stopRunning() }
    }

    private func run(_ arrived: AsyncStream<Pixels>.Continuation) throws {
        self.arrived = arrived
        if session.inputs.isEmpty { try configure() }
        session.startRunning()
    }

    private func configure() throws {
        guard let device = AVCaptureDevice.default(.builtInWideAngleCamera, for: .video, position: .back) else {
            throw Problem("This device has no camera on its back: choose a photo.")
        }
        session.beginConfiguration()
        defer { session.commitConfiguration() }
        session.sessionPreset = .vga640x480
        session.addInput(try AVCaptureDeviceInput(device: device))
        output.videoSettings = [kCVPixelBufferPixelFormatTypeKey as String: kCVPixelFormatType_32BGRA]
        output.setSampleBufferDelegate(self, queue: queue)
        session.addOutput(output)
        output.connection(with: .video)?.videoRotationAngle = 90
    }
}

extension Camera: AVCaptureVideoDataOutputSampleBufferDelegate {
    func captureOutput(
        _ output: AVCaptureOutput, didOutput sample: CMSampleBuffer, from connection: AVCaptureConnection
    ) {
        guard let buffer = sample.imageBuffer else { return }
        arrived?.yield(Pixels(buffer))
    }
}

extension Pixels {
    fileprivate init(_ buffer: CVPixelBuffer) {
        CVPixelBufferLockBaseAddress(buffer, .readOnly)
        defer { CVPixelBufferUnlockBaseAddress(buffer, .readOnly) }
        let height = CVPixelBufferGetHeight(buffer)
        let bytesPerRow = CVPixelBufferGetBytesPerRow(buffer)
        let bytes = UnsafeRawBufferPointer(start: CVPixelBufferGetBaseAddress(buffer), count: height * bytesPerRow)
        self.init(
            fourBytes: bytes, width: CVPixelBufferGetWidth(buffer), height: height, bytesPerRow: bytesPerRow, red: 2)
    }
}

#if canImport(CryptoKit)
import CryptoKit
import Foundation

extension InstalledBundle {
    /// Compares what lies in the folder with the digests in `bundle.json`: the artifact, its reference, and the input.
    public func verify(_ artifact: ModelBundle.Artifact) throws {
        var wanted = artifact.files
        for reference in [bundle.reference, artifact.reference] {
            wanted[reference.file] = reference.sha256
        }
        for (file, digest) in wanted {
            let data = try Data(contentsOf: folder.appendingPathComponent(file), options: .mappedIfSafe)
            let found = SHA256.hash(data: data).map { String(format: "%02x", $0) }.joined()
            guard found == digest else {
                throw Problem("\(file) is not the file that was bundled: run edgevit bundle again, and build the app")
            }
        }
    }
}
#endif

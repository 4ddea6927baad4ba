import XCTest

@testable import EdgeViTCore

/// Reads a bundle that `edgevit bundle` wrote, and writes a result for it, where the environment names both. The model
/// answers as the host did: there is no runtime here.
final class ExchangeTests: XCTestCase {
    func testABundleBecomesAResult() throws {
        let environment = ProcessInfo.processInfo.environment
        guard let folder = environment["EDGEVIT_BUNDLE"], let file = environment["EDGEVIT_RESULT"] else {
            throw XCTSkip("EDGEVIT_BUNDLE and EDGEVIT_RESULT name nothing")
        }
        let installed = try InstalledBundle(folder: URL(fileURLWithPath: folder))
        let artifact = try installed.artifact(for: .executorch)
        XCTAssertTrue(FileManager.default.fileExists(atPath: installed.url(of: artifact).path))
        let logits = try installed.referenceLogits(of: artifact)
        let benchmark = Benchmark(
            installed: installed, artifact: artifact,
            runtime: RuntimeUsed(name: "executorch", version: "1.5.1", delegate: "XNNPACK"),
            device: Device(name: "iPhone16,1", os: "iOS 17.5.1", soc: nil, arch: "aarch64", cores: 6, emulated: nil),
            thermal: { .nominal }, peakMemory: { 0 }, load: { Recorded(logits) })
        let (result, _) = try benchmark.run(TimingPlan(runs: 20, seconds: 0))
        try result.json().write(to: URL(fileURLWithPath: file))
    }
}

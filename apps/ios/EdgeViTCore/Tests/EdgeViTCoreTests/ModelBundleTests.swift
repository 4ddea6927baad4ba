import XCTest

@testable import EdgeViTCore

final class ModelBundleTests: XCTestCase {
    private func json() throws -> Data { try Golden.bundles()[0].json }

    private func refused(_ json: Data) -> String? {
        do {
            _ = try ModelBundle(json: json)
            return nil
        } catch {
            return (error as? Problem)?.sentence
        }
    }

    func testEveryField() throws {
        let bundle = try ModelBundle(json: json())
        XCTAssertEqual(bundle.edgevit, "0.1.0")
        XCTAssertEqual(bundle.model, "efficientvit_m0")
        XCTAssertEqual(bundle.quant, "int8")
        XCTAssertEqual(bundle.exportDigest.count, 64)
        XCTAssertEqual(bundle.input.shape, [1, 3, 32, 32])
        XCTAssertEqual(bundle.label(of: 1), "café")
        XCTAssertEqual(bundle.preprocess.std, [0.229, 0.224, 0.225])
        XCTAssertEqual(bundle.reference.file, "reference.f32")
        let artifact = try XCTUnwrap(bundle.models["onnx"])
        XCTAssertEqual(artifact.path, "onnx/model.onnx")
        XCTAssertEqual(artifact.minimumSQNR, 24.5)
        XCTAssertEqual(artifact.files.count, 1)
    }

    func testAClassWithoutALabelHasANumber() throws {
        XCTAssertEqual(try ModelBundle(json: Golden.bundles()[1].json).label(of: 2), "class 2")
    }

    func testWhatIsMissingIsNamed() throws {
        var bundle = try JSONSerialization.jsonObject(with: json()) as! [String: Any]
        bundle["models"] = ["coreml": ["path": "coreml/model.mlpackage"]]
        let sentence = refused(try JSONSerialization.data(withJSONObject: bundle))
        XCTAssertTrue(sentence?.contains("models.coreml.files") == true, sentence ?? "it was read")
        XCTAssertTrue(refused(Data("{".utf8))?.contains("no JSON") == true)
    }

    func testAnAppWithoutABundleSaysWhatToRun() throws {
        XCTAssertThrowsError(try InstalledBundle(folder: Golden.folder)) { error in
            XCTAssertTrue(error.localizedDescription.contains("run edgevit bundle"), error.localizedDescription)
        }
    }

    func testARuntimeWithoutAModelIsNamed() throws {
        let installed = try TestBundle().installed()
        XCTAssertEqual(installed.runtimes, [.executorch])
        XCTAssertThrowsError(try installed.artifact(for: .coreml)) { error in
            XCTAssertTrue(error.localizedDescription.contains("--target coreml"), error.localizedDescription)
        }
    }

    func testABundleForOtherAppsIsRefused() {
        XCTAssertThrowsError(try TestBundle(runtime: "onnx").installed()) { error in
            XCTAssertTrue(error.localizedDescription.contains("--target coreml"), error.localizedDescription)
        }
    }

    func testAReferenceOfAnotherLengthIsRefused() throws {
        let installed = try TestBundle(logits: [1, 2]).installed()
        XCTAssertThrowsError(try installed.referenceLogits(of: installed.artifact(for: .executorch))) { error in
            XCTAssertTrue(error.localizedDescription.contains("8 bytes and not 12"), error.localizedDescription)
        }
    }
}

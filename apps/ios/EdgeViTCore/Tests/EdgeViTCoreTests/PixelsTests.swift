import XCTest

@testable import EdgeViTCore

final class PixelsTests: XCTestCase {
    private let bytes: [UInt8] = [1, 2, 3, 9, 4, 5, 6, 9, 0, 0, 7, 8, 9, 9, 10, 11, 12, 9, 0, 0]  // rows of 10

    private func pixels(red: Int) -> Pixels {
        bytes.withUnsafeBytes { Pixels(fourBytes: $0, width: 2, height: 2, bytesPerRow: 10, red: red) }
    }

    func testRowsMayBePadded() {
        XCTAssertEqual(pixels(red: 0).rgb, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12])
    }

    func testBlueMayComeFirst() {
        XCTAssertEqual(pixels(red: 2).rgb, [3, 2, 1, 6, 5, 4, 9, 8, 7, 12, 11, 10])
    }
}

// swift-tools-version: 5.10

import PackageDescription

let package = Package(
    name: "EdgeViTCore",
    platforms: [.iOS(.v17), .macOS(.v14)],
    products: [.library(name: "EdgeViTCore", targets: ["EdgeViTCore"])],
    targets: [
        .target(name: "EdgeViTCore"),
        .testTarget(name: "EdgeViTCoreTests", dependencies: ["EdgeViTCore"]),
    ]
)

import org.jetbrains.kotlin.gradle.dsl.JvmTarget

plugins {
    alias(libs.plugins.kotlin.jvm)
}

java {
    sourceCompatibility = JavaVersion.VERSION_17
    targetCompatibility = JavaVersion.VERSION_17
}

kotlin {
    compilerOptions {
        jvmTarget = JvmTarget.JVM_17
    }
}

dependencies {
    compileOnly(libs.json) // Android has it
    testImplementation(libs.json)
    testImplementation(libs.junit)
}

tasks.test {
    useJUnit()
    systemProperty("golden", rootDir.resolve("../golden").path)
    systemProperty("result", layout.buildDirectory.file("result.json").get().asFile.path)
}

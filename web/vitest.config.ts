import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    // Each file starts a service and a browser: one after the other, on machines with two cores.
    fileParallelism: false,
    // Several runs may be at work, each on a file; a cache that all of them write is read half written.
    cache: false,
    testTimeout: 120_000,
    hookTimeout: 120_000,
    // Machines that run tests are busy; nothing here measures time.
    expect: { poll: { timeout: 20_000 } },
    sequence: { shuffle: { tests: true } },
  },
});

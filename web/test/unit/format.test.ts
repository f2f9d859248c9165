import { expect, test } from "vitest";
import { duration, size } from "../../src/format";

test.each([
  [0, "0 B"],
  [999, "999 B"],
  [1000, "1 kB"],
  [1_250_000, "1.3 MB"],
  [99_960_000, "100 MB"],
  [999_600_000, "1 GB"],
  [12_345_678_901_234, "12.3 TB"],
  [null, ""],
])("%s bytes are %s", (bytes, text) => expect(size(bytes)).toBe(text));

test.each([
  [0.4, "0 s"],
  [90, "1 min 30 s"],
  [3725, "1 h 2 min"],
  [null, ""],
  [Infinity, ""],
])("%s seconds are %s", (seconds, text) => expect(duration(seconds)).toBe(text));

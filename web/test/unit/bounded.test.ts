import { expect, test } from "vitest";
import { bounded, MOST_ROWS, type KeptRow } from "../../src/upload/kept";

function rows(count: number, prefix: string, of: Omit<KeptRow, "id">): [string, KeptRow][] {
  return Array.from({ length: count }, (_, index) => [
    `${prefix}${index}`,
    { id: `${prefix}${index}`, ...of },
  ]);
}

const open = { progress: { complete: false } };
const sent = { progress: { complete: true } };
const failed = { progress: { complete: false }, error: "refused" };

test("of too many rows the oldest settled ones go", () => {
  const files = Object.fromEntries([
    ...rows(1, "open", open),
    ...rows(2, "failed", failed),
    ...rows(MOST_ROWS, "sent", sent),
  ]);
  const kept = Object.keys(bounded(files));
  expect(kept).toHaveLength(MOST_ROWS);
  expect(kept.slice(0, 2)).toEqual(["open0", "sent1"]);
});

test("what is not settled never goes", () => {
  const files = Object.fromEntries([...rows(MOST_ROWS + 5, "open", open), ...rows(3, "sent", sent)]);
  expect(Object.keys(bounded(files))).toHaveLength(MOST_ROWS + 5);
});

import { expect, test } from "vitest";
import { rows } from "./browser";
import { makeWorld } from "./world";

const world = makeWorld();
/** A tenth of what the page is made for, to be quick; MANY=100000 for all of it. */
const COUNT = Number(process.env["MANY"] ?? 10_000);
const LAST = `row-${String(COUNT - 1).padStart(6, "0")}.txt`;

test("a long list is read to the end, with few rows in the document", async () => {
  await world.service.put("newest.txt", "x");
  world.service.fill(COUNT);
  const page = await world.page({}, "#files");
  await rows(page).filter({ hasText: "newest.txt" }).waitFor();
  const told = await page.evaluate(async (count) => {
    const grid = document.querySelector("#files .table");
    if (!grid) throw new Error("no list");
    const deadline = performance.now() + 100_000;
    let mostRows = 0;
    const frames: number[] = [];
    let last = performance.now();
    // As a person does who drags the bar to the end again and again.
    while (grid.getAttribute("aria-rowcount") !== String(count + 2) && performance.now() < deadline) {
      grid.scrollTop = grid.scrollHeight;
      await new Promise((frame) => requestAnimationFrame(frame));
      mostRows = Math.max(mostRows, grid.querySelectorAll(".row").length);
      const now = performance.now();
      frames.push(now - last);
      last = now;
    }
    frames.sort((one, other) => one - other);
    return {
      rowCount: grid.getAttribute("aria-rowcount"),
      mostRows,
      frames: frames.length,
      median: frames[frames.length >> 1],
      p99: frames[Math.floor(frames.length * 0.99)],
      worst: frames.at(-1),
    };
  }, COUNT);
  if (COUNT > 10_000) console.log(JSON.stringify(told));
  expect(told.rowCount).toBe(String(COUNT + 2));
  expect(told.mostRows).toBeLessThan(60);
  await rows(page).filter({ hasText: LAST }).waitFor();
  // What is new while one is at the end moves nothing that is on the screen.
  const row = rows(page).filter({ hasText: LAST });
  const before = await row.boundingBox();
  await world.service.put("even-newer.txt", "x");
  await expect.poll(() => page.getByRole("grid").getAttribute("aria-rowcount")).toBe(String(COUNT + 3));
  expect(await row.boundingBox()).toEqual(before);
  await page.getByRole("grid").focus();
  await page.keyboard.press("Home");
  await rows(page).filter({ hasText: "even-newer.txt" }).waitFor();
});

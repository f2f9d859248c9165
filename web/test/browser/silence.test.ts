import { expect, test } from "vitest";
import type { Page } from "playwright-core";
import { chooser, randomFile } from "./browser";
import { makeWorld } from "./world";

const world = makeWorld();

/** Let the first request there meet a connection on which nothing ever moves; returns whether it did. */
async function deaden(page: Page, pattern: string): Promise<() => boolean> {
  let met = false;
  await page.route(
    pattern,
    () => {
      met = true;
    },
    { times: 1 },
  );
  return () => met;
}

test.each(["**/api/uploads", "**/chunks/1", "**/finish"])(
  "a connection that died without a word on %s is given up for another one",
  async (pattern) => {
    const page = await world.page();
    await chooser(page).waitFor({ state: "attached" });
    await page.clock.install();
    const met = await deaden(page, pattern);
    const name = `silent-${pattern.replaceAll(/\W/g, "")}.bin`;
    const { path, digest } = await randomFile(world.service.folder, name, 3_000_000);
    await chooser(page).setInputFiles(path);
    await expect.poll(met).toBe(true);
    await page.clock.fastForward(59_000);
    await page.getByText("0 of 1 file sent").waitFor();
    await page.clock.fastForward(2_000);
    await page.getByText("1 of 1 file sent").waitFor();
    const [record] = await world.service.records({ name });
    expect(record && (await world.service.digest(record))).toBe(digest);
  },
);

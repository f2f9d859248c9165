import { expect, test } from "vitest";
import { Cable } from "./cable";
import { chooser, randomFile } from "./browser";
import { makeWorld } from "./world";

const world = makeWorld({ HAULIER_OPEN: "true" });

test("on a slow link chunks become smaller, and none is given up again and again", async () => {
  const cable = new Cable(Number(new URL(world.service.url).port), 100_000);
  const page = await world.page({}, "", await cable.lay());
  await chooser(page).waitFor({ state: "attached" });
  await page.clock.install();
  const { path, digest } = await randomFile(world.service.folder, "slow.bin", 1_500_000);
  const sizes: unknown[] = [];
  const sent: string[] = [];
  page.on("request", (request) => {
    if (/\/api\/uploads$/.test(request.url())) {
      sizes.push((request.postDataJSON() as { chunk_size: number }).chunk_size);
      sent.length = 0;
    }
    const chunk = /\/chunks\/(\d+)$/.exec(request.url());
    if (chunk?.[1]) sent.push(chunk[1]);
  });
  await chooser(page).setInputFiles(path);
  const minute = async (): Promise<void> => {
    const { passed } = cable;
    await expect.poll(() => cable.passed).toBeGreaterThan(passed + 50_000);
    await page.clock.fastForward(61_000);
  };
  await page.getByText("0 of 1 file sent, 1.5 MB of 1.5 MB").waitFor(); // handed over
  await minute();
  await expect.poll(() => sizes).toEqual([1024 * 1024, 256 * 1024]);
  await expect.poll(() => sent.length).toBe(3);
  for (let minutes = 0; minutes < 3; minutes += 1) await minute();
  await page.getByText("1 of 1 file sent").waitFor();
  expect(sent.sort()).toEqual(["0", "1", "2", "3", "4", "5"]);
  const [record] = await world.service.records({ name: "slow.bin", status: "completed" });
  expect(record && (await world.service.digest(record))).toBe(digest);
  cable.remove();
});

test("once a link is known to be slow, chunks are smaller", async () => {
  const page = await world.page();
  await chooser(page).waitFor({ state: "attached" });
  await page.evaluate(() => sessionStorage.setItem("haulier.pace", "5000"));
  const begun = page.waitForRequest((request) => request.method() === "POST");
  const { path } = await randomFile(world.service.folder, "smaller.bin", 1_500_000);
  await chooser(page).setInputFiles(path);
  expect(((await begun).postDataJSON() as { chunk_size: number }).chunk_size).toBe(256 * 1024);
  await page.getByText("1 of 1 file sent").waitFor();
});

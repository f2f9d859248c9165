import { expect, test } from "vitest";
import type { Page } from "playwright-core";
import { chooser, kept, networkOf, randomFile, rows } from "./browser";
import { makeWorld } from "./world";

const world = makeWorld();
const MB = 1_000_000;

/** Wait until the service has so much of the one upload that is under way. */
async function arrived(name: string, bytes: number): Promise<void> {
  await expect
    .poll(async () => {
      const answer = await fetch(`${world.service.url}/api/operators/sessions?limit=200`);
      const { items } = (await answer.json()) as {
        items: { filename: string; status: string; received_bytes: number }[];
      };
      return items.find((item) => item.filename === name && item.status === "open")?.received_bytes ?? 0;
    })
    .toBeGreaterThan(bytes);
}

async function checkWhole(page: Page, name: string, digest: string): Promise<void> {
  await page.getByRole("link", { name: "Files" }).click();
  await rows(page).filter({ hasText: name }).filter({ hasText: "completed" }).waitFor();
  const found = await world.service.records({ name });
  expect(found.map((record) => record.status)).toEqual(["completed"]);
  expect(found[0] && (await world.service.digest(found[0]))).toBe(digest);
}

test.each([6, 12, 80])("%s MB go on by themselves after a lost network and a reload", async (size) => {
  const name = `lost-${size}.bin`;
  const { path, digest } = await randomFile(world.service.folder, name, size * MB);
  const page = await world.page();
  const network = await networkOf(page);
  await network.slow(size * 400_000);
  await chooser(page).setInputFiles(path);
  await arrived(name, size * 200_000);
  await network.off();
  await page.getByText("The service cannot be reached.").waitFor();
  await kept(page, 1);
  await network.on();
  await page.reload();
  await checkWhole(page, name, digest);
});

test("a lost network alone is waited for, without a click", async () => {
  const { path, digest } = await randomFile(world.service.folder, "alone.bin", 6 * MB);
  const page = await world.page();
  const network = await networkOf(page);
  await network.slow(3 * MB);
  await chooser(page).setInputFiles(path);
  await arrived("alone.bin", MB);
  await network.off();
  await page.getByText("The service cannot be reached.").waitFor();
  await network.on();
  await checkWhole(page, "alone.bin", digest);
});

test("a service that is killed and started again is waited for", async () => {
  const { path, digest } = await randomFile(world.service.folder, "killed.bin", 6 * MB);
  const page = await world.page();
  await (await networkOf(page)).slow(3 * MB);
  await chooser(page).setInputFiles(path);
  await arrived("killed.bin", MB);
  await world.service.kill();
  await page.getByText("The service cannot be reached.").waitFor();
  await world.service.run();
  await checkWhole(page, "killed.bin", digest);
});

test("paused, nothing is sent; resumed, it goes on; removed, it is freed", async () => {
  const { path, digest } = await randomFile(world.service.folder, "paused.bin", 6 * MB);
  const page = await world.page();
  const network = await networkOf(page);
  await network.slow(MB);
  await chooser(page).setInputFiles(path);
  await arrived("paused.bin", 0);
  await page.getByRole("button", { name: "Pause", exact: true }).click();
  await page.getByText("Paused").first().waitFor();
  await network.on();
  await page.getByRole("button", { name: "Resume", exact: true }).click();
  await checkWhole(page, "paused.bin", digest);
  await network.slow(MB);
  const gone = await randomFile(world.service.folder, "gone.bin", 6 * MB);
  await page.getByRole("link", { name: "Upload" }).click();
  await page.getByRole("button", { name: "Add more files" }).click();
  await chooser(page).setInputFiles(gone.path);
  await arrived("gone.bin", 0);
  await page.getByRole("button", { name: "Cancel" }).first().click();
  await expect
    .poll(async () => (await world.service.records({ name: "gone.bin" })).map(({ status }) => status))
    .toEqual(["cancelled"]);
});

test("a file too large to be kept goes on where it was, once it is chosen again", async () => {
  const { path, digest } = await randomFile(world.service.folder, "large.bin", 560 * MB);
  const page = await world.page();
  const network = await networkOf(page);
  await network.slow(100 * MB);
  await chooser(page).setInputFiles(path);
  await arrived("large.bin", 100 * MB);
  await page.reload();
  const sent: number[] = [];
  page.on("request", (request) => {
    const chunk = /\/chunks\/(\d+)$/.exec(request.url());
    if (chunk && request.method() === "PUT") sent.push(Number(chunk[1]));
  });
  await page.getByRole("button", { name: "choose the same file again" }).click();
  await chooser(page).setInputFiles(path);
  await checkWhole(page, "large.bin", digest);
  // 67 chunks of 8 MiB in all; those that had arrived are not sent again.
  expect(sent.length).toBeGreaterThan(0);
  expect(sent.length).toBeLessThan(60);
});

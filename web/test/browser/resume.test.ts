import { expect, test } from "vitest";
import type { Page } from "playwright-core";
import { chooser, kept, list, networkOf, randomFile, rows } from "./browser";
import { makeWorld } from "./world";

const world = makeWorld();
const MB = 1_000_000;

const arrived = (name: string, bytes: number): Promise<void> => world.service.arrived(name, bytes);

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

test("a page that is loaded while the service is away goes on once it is back", async () => {
  const page = await world.page({}, "", "about:blank#");
  let asked = 0;
  await page.route("**/api/session", (route) => {
    asked += 1;
    return asked < 3 ? route.abort() : route.continue();
  });
  await page.goto(world.service.url);
  await chooser(page).setInputFiles(world.file("patient.txt", "patient"));
  await page.getByText("1 of 1 file sent").waitFor();
  expect(asked).toBeGreaterThanOrEqual(3);
});

test("paused files leave their turn to others", async () => {
  const page = await world.page();
  const network = await networkOf(page);
  await network.slow(MB / 2);
  const names = Array.from({ length: 5 }, (_, index) => `turn-${index}.bin`);
  const files = await Promise.all(names.map((name) => randomFile(world.service.folder, name, 3 * MB)));
  await chooser(page).setInputFiles(files.map(({ path }) => path));
  const item = (name: string) => page.locator(".uppy-Dashboard-Item").filter({ hasText: name });
  for (const name of names.slice(0, 4))
    await item(name).getByRole("button", { name: "Pause upload" }).click();
  await network.on();
  await page.getByText("1 of 5 files sent").waitFor();
  for (const name of names.slice(0, 4))
    await item(name).getByRole("button", { name: "Resume upload" }).click();
  await page.getByText("5 of 5 files sent").waitFor();
});

test("a file that changed on the disk while it was sent is told as that", async () => {
  const { path } = await randomFile(world.service.folder, "edited.bin", 560 * MB);
  const page = await world.page();
  const network = await networkOf(page);
  await network.slow(10 * MB);
  await chooser(page).setInputFiles(path);
  await page.getByText(/0 of 1 file sent, [1-9]/).waitFor();
  world.file("edited.bin", "another text");
  await network.on();
  await page.getByRole("alert").getByText("edited.bin: The file was changed, moved or removed").waitFor();
});

test("what was added just before a reload goes on too, beside what was under way", async () => {
  const page = await world.page();
  const network = await networkOf(page);
  await network.slow(MB);
  const files = ["before.bin", "after.bin"].map((name) => randomFile(world.service.folder, name, 3 * MB));
  const [first, second] = await Promise.all(files);
  for (const [index, file] of [first, second].entries()) {
    if (index > 0) await page.getByRole("button", { name: "Add more files" }).click();
    await chooser(page).setInputFiles(file?.path ?? "");
    await kept(page, index + 1);
  }
  // As a reload finds it that came before the second upload was written down.
  const before = JSON.parse(await list(page, world.service.url, null)) as {
    currentUploads: Record<string, { fileIDs: string[] }>;
    files: Record<string, { name: string; progress: { uploadStarted: number | null } }>;
  };
  for (const [id, file] of Object.entries(before.files)) {
    if (file.name !== "after.bin") continue;
    file.progress.uploadStarted = null;
    for (const [upload, { fileIDs }] of Object.entries(before.currentUploads))
      if (fileIDs.includes(id)) Reflect.deleteProperty(before.currentUploads, upload);
  }
  await list(page, world.service.url, JSON.stringify(before));
  await network.on();
  await page.goto(world.service.url);
  await page.getByText("2 of 2 files sent").waitFor();
});

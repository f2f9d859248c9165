import { expect, test } from "vitest";
import { chooser, photograph, randomFile, rows } from "./browser";
import { makeWorld } from "./world";

const world = makeWorld();

test("a chosen file appears in Files with its bytes", async () => {
  const page = await world.page();
  const { path, digest } = await randomFile(world.service.folder, "film.bin", 3_000_000);
  await chooser(page).setInputFiles(path);
  await page.getByText("1 of 1 file sent").waitFor();
  await page.getByRole("link", { name: "Files" }).click();
  await rows(page).filter({ hasText: "film.bin" }).filter({ hasText: "completed" }).waitFor();
  const [record] = await world.service.records({ name: "film.bin" });
  expect(record && (await world.service.digest(record))).toBe(digest);
});

test("twenty files at once show the right total", async () => {
  const page = await world.page();
  const paths = Array.from({ length: 20 }, (_, index) =>
    world.file(`twenty-${index}.txt`, "x".repeat(1000 + index)),
  );
  await chooser(page).setInputFiles(paths);
  await page.getByText("20 of 20 files sent, 20.2 kB of 20.2 kB").waitFor();
  const sizes = (await world.service.records({ name: "twenty-" })).map((record) => record.size ?? 0);
  expect(sizes.reduce((sum, size) => sum + size, 0)).toBe(20_190);
});

test("what is dropped anywhere on the page is sent, a folder with its paths", async () => {
  const page = await world.page({}, "#files");
  await chooser(page).waitFor({ state: "attached" }); // the page listens to drops from then on
  await page.evaluate(() => {
    const transfer = new DataTransfer();
    transfer.items.add(new File(["dropped"], "dropped.txt", { type: "text/plain" }));
    document.body.dispatchEvent(
      new DragEvent("drop", { dataTransfer: transfer, bubbles: true, cancelable: true }),
    );
  });
  await rows(page).filter({ hasText: "dropped.txt" }).filter({ hasText: "completed" }).waitFor();
  await page.getByRole("link", { name: "Upload" }).click();
  await page.getByRole("button", { name: "Add more files" }).click();
  const folder = page.locator("input.uppy-Dashboard-input[webkitdirectory]").first();
  world.file("album/2026/one.txt", "one");
  await folder.setInputFiles(`${world.service.folder}/album`);
  await page.getByRole("link", { name: "Files" }).click();
  await rows(page).filter({ hasText: "one.txt" }).filter({ hasText: "album/2026/" }).waitFor();
  const [record] = await world.service.records({ name: "one.txt" });
  expect(record?.path).toBe("album/2026/one.txt");
});

test("an empty file is a file", async () => {
  const page = await world.page();
  await chooser(page).setInputFiles(world.file("empty.txt", ""));
  await page.getByText("1 of 1 file sent").waitFor();
  expect((await world.service.records({ name: "empty.txt" }))[0]?.size).toBe(0);
});

test("the same file can be sent again once it has arrived", async () => {
  const page = await world.page();
  const path = world.file("again.txt", "again");
  await chooser(page).setInputFiles(path);
  await page.getByText("1 of 1 file sent").waitFor();
  await page.getByRole("button", { name: "Add more files" }).click();
  await chooser(page).setInputFiles(path);
  await expect
    .poll(async () => (await world.service.records({ name: "again.txt", status: "completed" })).length)
    .toBe(2);
});

test("a picture that is pasted anywhere on the page is sent", async () => {
  const page = await world.page({ permissions: ["clipboard-read", "clipboard-write"] });
  await chooser(page).waitFor({ state: "attached" });
  await page.evaluate(async () => {
    const canvas = document.createElement("canvas");
    canvas.getContext("2d")?.fillRect(0, 0, 30, 20);
    const blob = await new Promise<Blob | null>((done) => canvas.toBlob(done));
    if (blob) await navigator.clipboard.write([new ClipboardItem({ "image/png": blob })]);
  });
  await page.keyboard.press("Control+V");
  await page.getByText("1 of 1 file sent").waitFor();
  await page.getByRole("button", { name: "Add more files" }).focus();
  await page.keyboard.press("Control+V");
  await page.getByText("2 of 2 files sent").waitFor();
  const sent = await world.service.records({ name: "image.png" });
  expect(sent.map(({ content_type }) => content_type)).toEqual(["image/png", "image/png"]);
});

test("a folder that is dropped from outside comes with all that is in it", async () => {
  const page = await world.page();
  await chooser(page).waitFor({ state: "attached" });
  for (let index = 0; index < 12; index += 1) world.file(`tree/leaves/${index}.txt`, String(index));
  world.file("tree/a/b/deep.txt", "deep");
  world.file("tree/empty.txt", "");
  const session = await page.context().newCDPSession(page);
  const data = { items: [], files: [`${world.service.folder}/tree`], dragOperationsMask: 1 };
  // Beside Uppy's box, on the heading.
  for (const type of ["dragEnter", "dragOver", "drop"] as const)
    await session.send("Input.dispatchDragEvent", { type, x: 120, y: 85, data });
  await page.getByText("14 of 14 files sent").waitFor();
  const paths = (await world.service.records({ path: "tree/" })).map(({ path }) => path).sort();
  expect(paths.filter((path) => !path?.startsWith("tree/leaves/"))).toEqual([
    "tree/a/b/deep.txt",
    "tree/empty.txt",
  ]);
  expect(paths.length).toBe(14);
});

test("a phone offers its camera, and sends what it took", async () => {
  const page = await world.page({ hasTouch: true, isMobile: true, viewport: { width: 390, height: 780 } });
  const buffer = await photograph(page, 800, 600);
  const offered = page.waitForEvent("filechooser");
  await page.getByRole("tab", { name: "Take Picture" }).tap();
  const camera = await offered;
  expect(await camera.element().getAttribute("capture")).toBe("environment");
  await camera.setFiles({ name: "taken.jpg", mimeType: "image/jpeg", buffer });
  await page.getByText("1 of 1 file sent").waitFor();
  expect((await world.service.records({ name: "taken.jpg" }))[0]?.size).toBe(buffer.length);
});

test("one size is told in one unit", async () => {
  const page = await world.page();
  await chooser(page).setInputFiles(world.file("million.bin", new Uint8Array(1_000_000)));
  await page.getByText("1 of 1 file sent, 1 MB of 1 MB").waitFor();
  expect(await page.locator(".uppy-Dashboard-Item-statusSize").textContent()).toBe("1 MB");
});

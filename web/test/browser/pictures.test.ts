import { createHash } from "node:crypto";
import { expect, test } from "vitest";
import type { Page } from "playwright-core";
import { chooser, photograph, rows } from "./browser";
import { makeWorld } from "./world";

const world = makeWorld();

/** Drop a file on the page as a person does. */
async function drop(page: Page, name: string, type: string, body: Buffer): Promise<void> {
  await chooser(page).waitFor({ state: "attached" }); // the page listens to drops from then on
  await page.evaluate(
    ([name, type, text]) => {
      const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
      const transfer = new DataTransfer();
      transfer.items.add(new File([bytes], name, { type }));
      document.body.dispatchEvent(
        new DragEvent("drop", { dataTransfer: transfer, bubbles: true, cancelable: true }),
      );
    },
    [name, type, body.toString("base64")] as const,
  );
}

test("a photograph dropped on the page shows its thumbnail without a reload, and nothing moves", async () => {
  const page = await world.page({}, "#files");
  for (const name of ["above.txt", "below.txt"]) await world.service.put(name, name);
  await rows(page).filter({ hasText: "above.txt" }).waitFor();
  await page.evaluate(() => {
    const shifts: number[] = [];
    Object.assign(window, { shifts });
    new PerformanceObserver((list) => {
      for (const entry of list.getEntries()) shifts.push((entry as unknown as { value: number }).value);
    }).observe({ type: "layout-shift" });
  });
  const body = await photograph(page, 1600, 1200);
  await drop(page, "holiday.jpg", "image/jpeg", body);
  const row = rows(page).filter({ hasText: "holiday.jpg" });
  await row.waitFor();
  const before = await row.locator(".thumbnail").boundingBox();
  const picture = row.locator("img[src*='/assets/thumbnail']");
  await picture.waitFor();
  await expect
    .poll(() => picture.evaluate((image: HTMLImageElement) => [image.complete, image.naturalWidth]))
    .toEqual([true, 512]);
  expect(await row.locator(".thumbnail").boundingBox()).toEqual(before);
  expect(await page.evaluate(() => (window as unknown as { shifts: number[] }).shifts)).toEqual([]);
  await row.filter({ hasText: "completed" }).waitFor();
  const placeholder = await row.locator("img").first().getAttribute("src");
  expect(placeholder).toMatch(/^data:image\/webp;base64,/);
  const [record] = await world.service.records({ name: "holiday.jpg" });
  expect(record?.digest).toEqual({ "sha-256": createHash("sha256").update(body).digest("hex") });
  await row.click();
  const display = page.getByRole("img", { name: "Picture of holiday.jpg" });
  await expect.poll(() => display.evaluate((image: HTMLImageElement) => image.naturalWidth)).toBe(1600);
});

test("a picture that is broken says so, and is kept as it came", async () => {
  const page = await world.page({}, "#files");
  const body = (await photograph(page, 400, 300)).subarray(0, 900);
  await drop(page, "broken.jpg", "image/jpeg", body);
  await rows(page).filter({ hasText: "broken.jpg" }).filter({ hasText: "completed" }).click();
  await page.getByRole("dialog").getByText("No smaller pictures could be made").waitFor();
  await page.getByRole("dialog").getByRole("link", { name: "Download" }).waitFor();
});

test("a picture that did not come at first is shown once it does, and nothing broken meanwhile", async () => {
  const page = await world.page({}, "#files");
  let away = true;
  await page.route("**/assets/thumbnail", (route) => (away ? route.abort() : route.continue()));
  await world.service.put("late.jpg", await photograph(page, 600, 400));
  const image = rows(page).filter({ hasText: "late.jpg" }).locator("img[src*='/assets/thumbnail']");
  await image.waitFor({ state: "attached" });
  await image.waitFor({ state: "hidden" });
  away = false;
  await image.waitFor();
  expect(await image.evaluate((shown: HTMLImageElement) => shown.naturalWidth)).toBe(512);
});

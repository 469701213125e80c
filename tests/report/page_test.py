# SPDX-License-Identifier: Apache-2.0
"""page_test.py SALVO [SCREENSHOTS]: the pages of `salvo report` and `salvo plan` in Chromium.

On a phone and a desk, light and dark: nothing but the file is loaded, nothing is logged, no page
scrolls sideways, every chart has drawn its lines, text can be read; charts follow a change of the
scheme; without JavaScript the tables are whole; nasty names stay text. Status 77 without
chromium or playwright.
"""

import asyncio
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

import results

try:
    from playwright.async_api import async_playwright
except ImportError:
    print('skipped: no playwright (pip install playwright; its own browsers are not needed)')
    sys.exit(77)

SIZES = {'phone': (360, 740), 'desk': (1200, 900)}
# Distinct saturated colours on a canvas: grey axes and text alone have none.
COLOURS = '''() => [...document.querySelectorAll('canvas')].map(canvas => {
  const data = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
  const seen = new Map();
  for (let i = 0; i < data.length; i += 4) {
    const [r, g, b, a] = data.subarray(i, i + 4);
    if (a > 250 && Math.max(r, g, b) - Math.min(r, g, b) > 60) {
      const key = [r, g, b].join(',');
      seen.set(key, (seen.get(key) || 0) + 1);
    }
  }
  return [...seen.values()].filter(count => count > 30).length;
})'''
# Pixels of the labels left of each chart that stand out from the page by 4.5 to 1.
LABELS = '''() => {
  const light = (r, g, b) => [r, g, b].map(v => v / 255)
    .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const paper = light(...getComputedStyle(document.body).backgroundColor.match(/[0-9]+/g));
  return [...document.querySelectorAll('canvas')].map(canvas => {
    const width = Math.floor(Chart.getChart(canvas).chartArea.left) - 10;
    const data = canvas.getContext('2d').getImageData(0, 0, width, canvas.height).data;
    let count = 0;
    for (let i = 0; i < data.length; i += 4) {
      const own = light(data[i], data[i + 1], data[i + 2]);
      const ratio = (Math.max(own, paper) + 0.05) / (Math.min(own, paper) + 0.05);
      count += data[i + 3] > 200 && ratio >= 4.5;
    }
    return count;
  });
}'''
# Text whose contrast with what is behind it is below 4.5 to 1.
FAINT = '''() => {
  const parse = text => (text.match(/[0-9.]+/g) || []).map(Number);
  const light = ([r, g, b]) => [r, g, b].map(v => v / 255)
    .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = node => {
    for (; node; node = node.parentElement) {
      const colour = parse(getComputedStyle(node).backgroundColor);
      if (colour.length === 3 || colour[3] > 0) return colour;
    }
    return [255, 255, 255];
  };
  const faint = [];
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let text; (text = walk.nextNode());) {
    const node = text.parentElement;
    if (!text.data.trim() || !node.getClientRects().length) continue;
    const a = light(parse(getComputedStyle(node).color)), b = light(behind(node));
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) faint.push(text.data.trim().slice(0, 30) + ' ' + ratio.toFixed(2));
  }
  return faint;
}'''
FONTS = '''() => [...document.querySelectorAll('p, td, th, dt, dd, small, summary, li')]
  .filter(node => node.getClientRects().length)
  .map(node => parseFloat(getComputedStyle(node).fontSize)).reduce((a, b) => Math.min(a, b))'''
WIDTHS = '() => [document.documentElement.scrollWidth, document.documentElement.clientWidth]'

failures: list[str] = []


def check(good: bool, what: str) -> None:
    if not good:
        failures.append(what)
        print('FAILED:', what)


class Tab:
    """A page with an account of what it asked for and said."""

    def __init__(self, page) -> None:
        self.page, self.noise = page, []
        page.on('console', lambda m: self.noise.append('console: ' + m.text))
        page.on('pageerror', lambda error: self.noise.append('error: ' + str(error)))
        page.on('dialog', lambda dialog: self.noise.append('dialog: ' + dialog.message))
        page.on('request', lambda request: self.noise.append('request: ' + request.url))

    async def open(self, path: pathlib.Path) -> None:
        await self.page.goto(path.as_uri())
        await self.page.wait_for_load_state('load')
        await self.page.wait_for_timeout(300)  # a late error, a redraw
        own = 'request: ' + path.as_uri()
        check(self.noise == [own], f'{path.name}: {self.noise}')


async def look(browser, path: pathlib.Path, runs: int, shots: pathlib.Path | None,
               schemes: tuple[str, ...] = ('light', 'dark'), charts: int = 6) -> None:
    for name, (width, height) in SIZES.items():
        for scheme in schemes:
            where = f'{path.stem} {name} {scheme}'
            context = await browser.new_context(viewport={'width': width, 'height': height},
                                                color_scheme=scheme, offline=True)
            tab = Tab(await context.new_page())
            await tab.open(path)
            wide, shown = await tab.page.evaluate(WIDTHS)
            check(wide <= shown, f'{where}: scrolls sideways, {wide} > {shown}')
            colours = await tab.page.evaluate(COLOURS)
            check(len(colours) == charts, f'{where}: {len(colours)} charts')
            check(all(count >= min(runs, 3) for count in colours), f'{where}: colours {colours}')
            labels = await tab.page.evaluate(LABELS)
            check(min(labels) > 30, f'{where}: labels of charts are hard to see: {labels}')
            faint = await tab.page.evaluate(FAINT)
            check(not faint, f'{where}: hard to read: {faint[:5]}')
            check(await tab.page.evaluate(FONTS) >= 12, f'{where}: text below 12 px')
            if shots:
                await tab.page.screenshot(path=shots / f'{where.replace(" ", "-")}.png',
                                          full_page=True)
            await context.close()


async def follows_scheme(browser, path: pathlib.Path) -> None:
    page = await (await browser.new_context(color_scheme='light')).new_page()
    await page.goto(path.as_uri())
    picture = "() => document.querySelector('canvas').toDataURL()"
    before = await page.evaluate(picture)
    await page.emulate_media(color_scheme='dark')
    await page.wait_for_timeout(300)
    after = await page.evaluate(picture)
    fresh = await (await browser.new_context(color_scheme='dark')).new_page()
    await fresh.goto(path.as_uri())
    check(before != after, 'charts do not follow a change of the scheme')
    check(after == await fresh.evaluate(picture), 'a changed scheme looks unlike a chosen one')


async def without_script(browser, path: pathlib.Path) -> None:
    context = await browser.new_context(java_script_enabled=False,
                                        viewport={'width': 360, 'height': 740})
    page = await context.new_page()
    await page.goto(path.as_uri())
    text = await page.locator('body').inner_text()
    for wanted in ('Charts need JavaScript', 'p99.9', 'acknowledged/s', 'linger_us', 'never',
                   'refused: full', 'lateness p99'):
        check(wanted in text, f'without JavaScript: no {wanted}')
    check(await page.locator('canvas:visible').count() == 0, 'empty charts without JavaScript')


async def stays_text(browser, path: pathlib.Path) -> None:
    tab = Tab(await (await browser.new_context()).new_page())
    await tab.open(path)
    check(await tab.page.locator('img').count() == 0, 'a name became markup')
    check(await tab.page.locator('script').count() == 3, 'a name became a script')
    name = await tab.page.locator('article h2').first.inner_text()
    check('<script>alert(1)</script>' in name and '{{data}}' in name, f'not as text: {name}')
    drawn = await tab.page.evaluate(
        "() => JSON.parse(document.getElementById('data').textContent).runs[0].name")
    check(drawn == results.NASTY, f'the data has another name: {drawn}')
    # What got in anyway would not run, nor reach anybody.
    blocked = await tab.page.evaluate('''async () => {
      const script = document.createElement('script');
      script.textContent = 'window.ran = true';
      document.body.append(script);
      const reached = await fetch('data:,x').then(() => true, () => false);
      return [window.ran === true, reached];
    }''')
    check(blocked == [False, False], f'the policy lets through: script, fetch = {blocked}')


async def main(salvo: str, folder: pathlib.Path, shots: pathlib.Path | None) -> None:
    os.chdir(folder)
    a = results.write('a.json', results.result('kafka, linger 5 ms'))
    b = results.write('b.json', results.result(
        'librdkafka', 2, 1.7, lost=60, client='librdkafka', valid=False,
        invalid_because='the generator was late: p99 of its lateness is 812 us'))
    many = [results.write(f'{i}.json', results.result(f'a rather long name of a run, {i}', i,
                                                      1 + i / 4, seconds=700,
                                                      messages=2000)) for i in range(9)]
    nasty = results.write('nasty.json', results.result(
        results.NASTY, 3, valid=False, invalid_because=results.NASTY, client=results.NASTY,
        settings={results.NASTY: results.NASTY}, machine={'cpu': results.NASTY}))
    pages = {'one': [a], 'two': [a, b], 'many': many, 'nasty': [nasty]}
    for name, inputs in pages.items():
        subprocess.run([salvo, 'report', '--out', name + '.html', *inputs], check=True)
    subprocess.run([salvo, 'plan', '--rate', '3k', '--outage', '2s', '--recovery', '4s',
                    '--confirm', '1m', '--page', 'plan.html'],
                   check=True, stdout=subprocess.DEVNULL)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=shutil.which('chromium'), args=['--no-sandbox', '--disable-gpu'])
        for name, inputs in pages.items():
            await look(browser, folder / (name + '.html'), len(inputs), shots,
                       ('light', 'dark') if name == 'two' else ('dark',))
        await look(browser, folder / 'plan.html', 1, shots, charts=4)
        await follows_scheme(browser, folder / 'two.html')
        await without_script(browser, folder / 'two.html')
        await stays_text(browser, folder / 'nasty.html')
        await browser.close()


if __name__ == '__main__':
    if not shutil.which('chromium'):
        print('skipped: no chromium (apt-get install chromium)')
        sys.exit(77)
    pictures = pathlib.Path(sys.argv[2]).resolve() if len(sys.argv) > 2 else None
    with tempfile.TemporaryDirectory() as scratch:
        asyncio.run(main(os.path.realpath(sys.argv[1]), pathlib.Path(scratch), pictures))
    print(f'{len(failures)} failures')
    sys.exit(1 if failures else 0)

/** Charts as SVG, for pages with a light background and for pages with a dark one: transparent, in colours of middling brightness. */

import * as echarts from 'echarts'
import { present } from '../present.js'

export interface BarChart {
  readonly title: string
  /** What the numbers are, and which direction is better. */
  readonly subtitle: string
  readonly unit: string
  /** One bar each, from top to bottom; of several series the values are stacked in it. */
  readonly names: readonly string[]
  readonly series: readonly { readonly name: string; readonly values: readonly number[] }[]
  /** The names of bars to set off from the others: in bold, and where there is one series in a colour of their own. */
  readonly highlighted?: readonly string[]
  /** Digits behind the point. @default 0 */
  readonly digits?: number
  /** For values of very different sizes. Not with several series. */
  readonly logarithmic?: boolean
}

export interface LineChart {
  readonly title: string
  readonly subtitle: string
  readonly x: string
  readonly y: string
  readonly series: readonly {
    readonly name: string
    readonly points: readonly (readonly [x: number, y: number])[]
  }[]
}

/** The same distance in brightness from white and from GitHub's dark background, 4.2 : 1 at least. */
const TEXT = '#787878'
const GRID = '#78787840'
const COLORS = ['#3f7fd0', '#b8701f', '#8a63d2', '#2f8f5b', '#c2517d', '#5b8a9a']
const HIGHLIGHT = '#c4622d'
const FONT = { color: TEXT, fontFamily: 'system-ui, sans-serif', fontSize: 13 }
const WIDTH = 840
const BAR = 34
/** Pixels that a character takes at most, in the widest of the fonts it may come to: nothing here can measure them. */
const CHARACTER = 7.4

export function barChart({
  title,
  subtitle,
  unit,
  names,
  series,
  highlighted = [],
  digits = 0,
  logarithmic = false,
}: BarChart): string {
  const totals = names.map((_, index) =>
    series.reduce((sum, { values }) => sum + present(values[index]), 0),
  )
  const last = series.length - 1
  const legend = series.length > 1
  const left = 20 + CHARACTER * Math.max(...names.map(({ length }) => length))
  const labels = names.map((value) => ({
    value,
    textStyle: { fontWeight: highlighted.includes(value) ? 'bold' : 'normal' },
  }))
  return draw(names.length * BAR + 110, {
    ...heading(title, subtitle),
    ...(legend && { legend: { bottom: 0, textStyle: FONT } }),
    grid: { left, right: 110, top: 62, bottom: legend ? 50 : 28 },
    xAxis: {
      ...(logarithmic ? { type: 'log', min: 1 } : { type: 'value' }),
      axisLabel: { ...FONT, fontSize: 11 },
      splitLine: { lineStyle: { color: GRID } },
    },
    yAxis: {
      type: 'category',
      inverse: true,
      data: labels,
      axisLabel: FONT,
      axisTick: { show: false },
      axisLine: { lineStyle: { color: GRID } },
    },
    series: series.map(({ name, values }, index) => ({
      type: 'bar',
      name,
      stack: 'one',
      barWidth: '62%',
      color: present(COLORS[index % COLORS.length]),
      data: values.map((value, bar) => ({
        value,
        ...(!legend &&
          highlighted.includes(present(names[bar])) && { itemStyle: { color: HIGHLIGHT } }),
      })),
      label: {
        show: index === last,
        position: 'right',
        ...FONT,
        formatter: ({ dataIndex }: { dataIndex: number }) =>
          `${format(present(totals[dataIndex]), digits)} ${unit}`,
      },
    })),
  })
}

export function lineChart({ title, subtitle, x, y, series }: LineChart): string {
  const axis = {
    nameTextStyle: FONT,
    axisLabel: FONT,
    splitLine: { lineStyle: { color: GRID } },
    axisLine: { lineStyle: { color: GRID } },
  }
  return draw(420, {
    ...heading(title, subtitle),
    legend: { bottom: 0, textStyle: FONT },
    grid: { left: 90, right: 24, top: 76, bottom: 80 },
    xAxis: { type: 'value', name: x, nameLocation: 'middle', nameGap: 28, ...axis },
    yAxis: { type: 'value', name: y, nameLocation: 'middle', nameGap: 52, ...axis },
    series: series.map(({ name, points }, index) => ({
      type: 'line',
      name,
      showSymbol: false,
      lineStyle: { width: 2 },
      color: present(COLORS[index % COLORS.length]),
      data: points.map(([at, value]) => [at, value]),
    })),
  })
}

/** With commas between the thousands. */
export function format(figure: number, digits = 0): string {
  return figure.toLocaleString('en-US', {
    minimumFractionDigits: digits,
    maximumFractionDigits: digits,
  })
}

function heading(text: string, subtext: string): echarts.EChartsCoreOption {
  return {
    title: {
      text,
      subtext,
      left: 8,
      top: 4,
      textStyle: { ...FONT, fontSize: 16 },
      subtextStyle: { ...FONT, fontSize: 12 },
    },
  }
}

function draw(height: number, option: echarts.EChartsCoreOption): string {
  const chart = echarts.init(null, null, { renderer: 'svg', ssr: true, width: WIDTH, height })
  try {
    chart.setOption({ animation: false, backgroundColor: 'transparent', ...option })
    return chart.renderToSVGString()
  } finally {
    chart.dispose()
  }
}

//! Tables of keys: each is the struct that it is read as, and the reference of its keys.

macro_rules! tables {
    ($(
        $(#[doc = $about:literal])*
        $table:ident {$(
            $(#[doc = $doc:literal])*
            $field:ident : $type:ty [ $($part:ident ( $($value:expr),* ))* ],
        )*}
    )*) => {$(
        $(#[doc = $about])*
        #[derive(Debug, Clone)]
        pub(super) struct $table {
            $( $(#[doc = $doc])* pub(super) $field: $type, )*
        }

        impl Keyed for $table {
            const KEYS: &'static [Entry] = &[$(
                Entry::new(
                    stringify!($field),
                    concat!($($doc),*),
                    <$type as Field>::KIND,
                    <$type as Field>::SEVERAL,
                ) $(.$part($($value),*))*,
            )*];

            fn given(&self) -> impl Iterator<Item = (&'static str, &Place)> {
                let places = [$(Field::place(&self.$field)),*];
                let keys = Self::KEYS.iter().map(Entry::name).zip(places);
                keys.filter_map(|(name, place)| Some((name, place?)))
            }
        }

        impl Read for $table {
            const KIND: Kind = Kind::Table(<$table as Keyed>::KEYS);

            fn read(node: &Node, entry: &Entry, faults: &mut Faults) -> Option<Self> {
                let table = entries(node, entry, faults)?;
                unknown(table, &node.place, Self::KEYS, faults);
                let mut keys = Self::KEYS.iter();
                $(
                    let $field = keys.next().and_then(|entry| {
                        let found = table.iter().find(|(name, _)| name == entry.name());
                        <$type as Field>::take(found.map(|(_, n)| n), &node.place, entry, faults)
                    });
                )*
                Some($table { $( $field: $field?, )* })
            }
        }

        impl Field for $table {
            const KIND: Kind = <$table as Read>::KIND;
            const SEVERAL: bool = false;

            fn place(&self) -> Option<&Place> {
                self.given().next().map(|(_, place)| place)
            }

            fn take(node: Option<&Node>, table: &Place, entry: &Entry, faults: &mut Faults) -> Option<Self> {
                match node {
                    Some(node) => Self::read(node, entry, faults),
                    None => {
                        let place = table.under(entry.name());
                        Self::read(&Node { place, value: Value::Table(Vec::new()) }, entry, faults)
                    }
                }
            }
        }
    )*};
}

pub(super) use tables;
